"""Measure a window of a long video, and sum up all of them. Frames are (T, H, W, 3) in [0, 1]. Torch only."""

import math
from collections.abc import Sequence

from torch import Tensor

from ..measures import (
    STILL_STEP,
    delta_e,
    luma_grid,
    mean_lab,
    mean_motion,
    motion_steps,
    seam_ratio,
    sharpness,
)

SLOWEST = 0.001
"""Motion per frame, as a share of the shorter side, below which a clip has no direction to keep."""
SEAM_SEEN = 2.0
"""Badness of a seam up to which few people see it."""
PACE_FRAMES = 4
"""Frames on either side of a seam whose motion is compared."""


def turned_deg(motion: Sequence[float], reference: Sequence[float]) -> float | None:
    """Return the angle in degrees, 0 to 180, between two motions from ``mean_motion``; None if one has no direction."""
    (x, y), (x0, y0) = motion, reference
    if min(math.hypot(x, y), math.hypot(x0, y0)) < SLOWEST:
        return None
    return abs(math.degrees(math.atan2(x0 * y - y0 * x, x0 * x + y0 * y)))


def seam_badness(ratio: float) -> float:
    """Return how many times too large or too small a seam's step is: 1 is best."""
    return math.inf if ratio <= 0 else max(ratio, 1 / ratio)


def measure_window(
    frames: Tensor,
    *,
    reference_lab: Tensor,
    before: Tensor | None,
    wanted_motion: Sequence[float] | None = None,
    start: Tensor | None = None,
) -> dict[str, float]:
    """Measure one window's new frames.

    Args:
        frames: (T, H, W, 3), the frames this window adds.
        reference_lab: (3,), the mean color of the first window.
        before: the last frames of the window before, or None for the first.
        wanted_motion: the motion (from ``mean_motion``) that this window should keep, or None.
        start: (1, H, W, 3), the first frame of the video, or None.

    Returns:
        ``color_shift`` (delta E against the first window), ``brightness`` (mean L* / 100), ``sharpness``,
        ``contrast`` (spread of luma), ``motion`` (median step), ``motion_right`` and ``motion_down`` (see
        ``mean_motion``); with ``before``: ``seam_color_shift``, ``seam_motion`` (see ``seam_ratio``) and ``seam_pace``
        (see ``pace_change``); with ``wanted_motion``: ``turned_deg``; with ``start`` and ``before``: ``returned``.
    """
    lab, luma = mean_lab(frames), luma_grid(frames)
    steps = motion_steps(luma)
    measures = {
        "color_shift": float(delta_e(lab, reference_lab.to(lab))),
        "brightness": float(lab[0]) / 100,
        "sharpness": sharpness(frames),
        "contrast": float(luma.flatten(1).std(1).mean()),
        "motion": float(steps.median()) if steps.numel() else 0.0,
    }
    if len(frames) > 1:
        motion = mean_motion(luma)
        measures["motion_right"], measures["motion_down"] = motion
        angle = None if wanted_motion is None else turned_deg(motion, wanted_motion)
        if angle is not None:
            measures["turned_deg"] = angle
    if before is not None:
        measures["seam_color_shift"] = float(delta_e(mean_lab(before[-1:]), mean_lab(frames[:1])))
        earlier = luma_grid(before)
        measures["seam_motion"] = seam_ratio(earlier[-4:], luma[:4])
        if min(len(earlier), len(luma)) >= PACE_FRAMES:
            measures["seam_pace"] = pace_change(earlier, luma)
        share = None if start is None else returned_share(luma_grid(start)[0], earlier[-1], luma[-1])
        if share is not None:
            measures["returned"] = share
    return measures


def pace_change(before: Tensor, after: Tensor) -> float:
    """Return how many times as fast the picture moves after a seam as before it; both from ``luma_grid``."""
    old, new = (float(motion_steps(part).median()) for part in (before[-PACE_FRAMES:], after[:PACE_FRAMES]))
    return (new + STILL_STEP) / (old + STILL_STEP)


def returned_share(start: Tensor, begin: Tensor, end: Tensor) -> float | None:
    """Return how much nearer a window comes to the start picture, as a share; None if it began near that picture.

    Args:
        start, begin, end: luma (h, w) of the video's first frame, of the frame before the window, of its last one.
    """
    distance_before, distance_after = (float((frame - start).abs().mean()) for frame in (begin, end))
    return None if distance_before < 4 * STILL_STEP else max(0.0, 1 - distance_after / distance_before)


def summarize(windows: list[dict[str, float]]) -> dict[str, float]:
    """Sum up the measures of all windows: the worst, and the first window against the last."""
    if not windows:
        return {}
    ratios = [w["seam_motion"] for w in windows if "seam_motion" in w]
    summary = {
        "color_shift_last": windows[-1]["color_shift"],
        "color_shift_max": max(w["color_shift"] for w in windows),
        "brightness_change": windows[-1]["brightness"] - windows[0]["brightness"],
        "sharpness_kept": windows[-1]["sharpness"] / max(windows[0]["sharpness"], 1e-9),
    }
    if "contrast" in windows[0] and "contrast" in windows[-1]:  # not in windows of older versions
        summary["contrast_kept"] = windows[-1]["contrast"] / max(windows[0]["contrast"], 1e-9)
    if turns := [w["turned_deg"] for w in windows if "turned_deg" in w]:
        summary["turned_max_deg"] = max(turns)
    if ratios:
        summary["seams_ok_share"] = sum(seam_badness(r) <= SEAM_SEEN for r in ratios) / len(ratios)
        summary["seam_worst"] = max(seam_badness(r) for r in ratios)
        summary["seam_color_shift_max"] = max(w.get("seam_color_shift", 0.0) for w in windows)
    return summary

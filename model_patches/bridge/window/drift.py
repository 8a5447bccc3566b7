"""Measure the drift of a finished video, one window in memory at a time."""

import json
from collections.abc import Callable, Iterator
from itertools import islice

import torch
from torch import Tensor

from ...measures import mean_lab
from ...store.video_source import probe_video, read_frames
from ...window.complaints import complaints
from ...window.measure import measure_window, summarize
from ...window.report import drift_lines, first_measured_frame, seam_frames, verdict
from .start import video_source

Features = Callable[[Tensor], Tensor]
"""(N, H, W, 3) to (N, D)."""


def measure_video(video, *, report: str, window_frames: int, features: Features | None) -> dict:
    """Measure a VIDEO window by window.

    If a run continued a video, measuring starts near the end of that video: it may be long, and another scene in it is
    no drift.

    Args:
        report: the report of Sliding Window Extend, which says where the seams are; empty for any video.
        window_frames: frames per window if there is no report.
        features: computes what identity is compared by; None leaves identity out.

    Returns:
        ``verdict`` and ``summary`` (sentences), ``drift`` (figures over all), ``windows`` (measures of each, with
        ``start_frame``).

    Raises:
        ValueError: an unreadable video or report.
    """
    source = video_source(video)
    probe_video(source)
    windows: list[dict] = []
    start, next_start = split_plan(report, window_frames)
    reference_lab, reference_features, before, first = None, None, None, None
    for frames in split_at(islice(read_frames(source), start, None), next_start, start=start):
        if reference_lab is None:
            reference_lab, first = mean_lab(frames), frames[:1].clone()
            reference_features = None if features is None else features(frames[:1])[0]
        measures = measure_window(frames, reference_lab=reference_lab, before=before, start=first)
        if features is not None and reference_features is not None:
            last = features(frames[-1:])[0]
            measures["identity"] = float(
                torch.cosine_similarity(last.float(), reference_features.float(), dim=0)
            )
        windows.append({"start_frame": start, **{name: round(value, 5) for name, value in measures.items()}})
        before, start = frames[-5:], start + len(frames)
    drift = summarize(windows)
    if features is not None and windows:
        drift["identity_last"] = windows[-1]["identity"]
    summary = [*drift_lines(drift), *complaints([{"measures": window} for window in windows])]
    return {"verdict": verdict(windows), "summary": summary, "drift": drift, "windows": windows}


def split_plan(report: str, window_frames: int) -> tuple[int, Callable[[int], int | None]]:
    """Return the first frame to measure, and a function from a window's first frame to the first one of the next.

    Raises:
        ValueError: it is not a report.
    """
    if not report.strip():
        return 0, lambda start: start + window_frames
    try:
        document = json.loads(report)
        first, seams = first_measured_frame(document), seam_frames(document)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("report is not the report of Sliding Window Extend. Connect that output.") from error
    return first, lambda start: next((seam for seam in seams if seam > start), None)


def split_at(
    frames: Iterator[Tensor], next_start: Callable[[int], int | None], *, start: int = 0
) -> Iterator[Tensor]:
    """Yield the frames of each window, (T, H, W, 3); ``start`` is the number of the first frame."""
    window: list[Tensor] = []
    end = next_start(start)
    for number, frame in enumerate(frames, start=start):
        if number == end:
            yield torch.stack(window)
            window, end = [], next_start(number)
        window.append(frame)
    if window:
        yield torch.stack(window)


def clip_vision_features(clip_vision) -> Features:
    """Return the features of a CLIP_VISION tower."""
    return lambda frames: clip_vision.encode_image(frames)["image_embeds"]


def vlm_features(encoders) -> Features:
    """Return the mean VLM state of every picture."""
    from ..encoders.socket import as_uint8

    def features(frames: Tensor) -> Tensor:
        states = [encoders.backend.image_states([picture]) for picture in as_uint8(frames)]
        return torch.cat([state.mean(1) for state in states])

    return features

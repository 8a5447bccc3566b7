"""Find windows whose first frames flash, go gray or blur against the frames they continue.

A moving picture changes its mean brightness too. How often each brightness occurs changes little from frame to frame,
wherever things move; a flash moves all of it the same way. So the pixels of two frames are compared in order of their
brightness, not of their place.
"""

import numpy as np
import torch
from torch import Tensor

from ..measures import luma_grid, sharpness

FIRST_FRAMES = 3
"""How many new frames are compared: a flash settles within a few."""
QUANTILES = 2048
SAME = 2 / 255
"""Difference of luma up to which two pixels count as equally bright."""
GAINS = torch.linspace(0.5, 1.5, 201)
"""Changes of brightness that are tried; the middle one is none."""
LEAST_BETTER = 0.01
"""By how large a share of the pixels a change must match better than no change does."""
LEAST_CONTRAST = 0.05
"""Spread of luma below which a picture is plain, and its contrast says nothing."""


def measure_flash(before: Tensor, after: Tensor) -> dict[str, float]:
    """Compare the first new frames with the last known ones.

    Args:
        before: the frames up to the seam, (T, H, W, 3) in [0, 1], T >= 1.
        after: the frames after it.

    Returns:
        ``flash_brightness``, ``flash_contrast``, ``flash_sharpness``: shares of change, 0.06 is 6 % more.
    """
    old, new = before[-FIRST_FRAMES:], after[:FIRST_FRAMES]
    old_luma, new_luma = luma_grid(old), luma_grid(new)
    return {
        "flash_brightness": brightness_change(old_luma[-1], new_luma),
        "flash_contrast": change(old_luma.std(), new_luma.std(), least=LEAST_CONTRAST),
        "flash_sharpness": change(sharpness(old), sharpness(new), least=1 / 255),
    }


def brightness_change(old: Tensor, new: Tensor) -> float:
    """Return the share by which frames (T, h, w) are brighter than the frame (h, w) before them, at the worst.

    It is the change that makes most pixels equal, so what enters the picture or leaves it does not count.
    """
    before = quantiles(old)
    tried = (GAINS[:, None].to(before) * before).clamp(max=1)
    changes = [gain_of(tried, quantiles(frame)) - 1 for frame in new]
    return max(changes, key=abs)


def gain_of(tried: Tensor, new: Tensor) -> float:
    """Return the gain whose row of ``tried`` (gains, quantiles) matches ``new`` best; 1 if none is clearly better."""
    matching = ((tried - new).abs() <= SAME).float().mean(1).cpu()
    if matching[len(GAINS) // 2] > matching.max() - LEAST_BETTER:
        return 1.0
    return float(GAINS[matching >= matching.max() - 1e-6].mean())


def quantiles(frame: Tensor) -> Tensor:
    """Return evenly spaced quantiles of a frame's luma, darkest first."""
    ordered = torch.from_numpy(np.sort(frame.flatten().cpu().numpy()))  # four times as fast as torch's
    return ordered[torch.linspace(0, len(ordered) - 1, QUANTILES).round().long()]


def change(old: float | Tensor, new: float | Tensor, *, least: float) -> float:
    """Return the relative change of a value; an old value below ``least`` counts as ``least``."""
    return (float(new) - float(old)) / max(float(old), least)

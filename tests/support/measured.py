"""Measures of frames (T, H, W, 3), which the pack takes of their luma."""

from magic141.model_patches.measures import luma_grid, mean_motion, seam_ratio
from torch import Tensor


def motion_of(frames: Tensor) -> tuple[float, float]:
    return mean_motion(luma_grid(frames))


def seam_of(before: Tensor, after: Tensor) -> float:
    return seam_ratio(luma_grid(before[-4:]), luma_grid(after[:4]))

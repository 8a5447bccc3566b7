"""Measures that need no model, of frames that are given one by one. Frames are (H, W, 3) uint8."""

import math
from statistics import fmean

import torch
import torch.nn.functional as F
from torch import Tensor

from ..measures import STILL_STEP, delta_e, mean_lab, sharpness

FROZEN = 0.1 / 255
"""A frame whose mean change is smaller repeats the one before; the rounding of codecs is smaller than this."""
NEIGHBORS = 4
"""A jump is compared with so many steps before and after it."""
ENDS = 5
"""The beginning and the end of a clip are each a fifth of it."""
MOST_PSNR = 100.0
"""Equal pictures have an infinite PSNR, which JSON cannot hold."""


class PlainMeasures:
    """Measures a clip frame by frame; two frames and a few numbers for each are in memory."""

    def __init__(self) -> None:
        self.steps: list[float] = []
        self.blends: list[float] = []
        self.details: list[float] = []
        self.labs: list[list[float]] = []  # small tensors between large ones would keep the memory of those
        self._last: list[Tensor] = []

    def add(self, frame: Tensor) -> None:
        """Take the next frame."""
        picture = frame.float()
        if self._last:
            self.steps.append(float((picture - self._last[-1]).abs().mean()) / 255)
        if len(self._last) == 2 and len(self.labs) % 2 == 0:
            between = (self._last[0] + picture) / 2
            self.blends.append(float((self._last[1] - between).abs().mean()) / 255)
        self._last = [*self._last[-1:], picture]
        shown = picture[None] / 255
        self.details.append(sharpness(shown))
        self.labs.append(mean_lab(shown).tolist())

    def values(self, fps: float) -> dict[str, float]:
        """Return the measures that the number of frames allows, by their names in the catalog."""
        values = {"sharpness": fmean(self.details)}
        if self.steps:
            values |= {
                "temporal_flickering": 1 - fmean(self.steps),
                "motion": 100 * fmean(self.steps),
                "still_s": longest_run([step < FROZEN for step in self.steps])[1] / fps,
                "sharpness_kept": end_over_beginning(self.details),
                "color_drift": max(self._color_shifts()),
            }
        if self.blends:
            values["motion_smoothness"] = 1 - fmean(self.blends)
        if len(self.steps) > 2:
            values["worst_jump"] = max(jumps(self.steps))
        return values

    def moments(self, fps: float) -> dict[str, float]:
        """Return the seconds at which the worst jump lies and the longest standstill begins."""
        if len(self.steps) < 3:
            return {}
        ratios = jumps(self.steps)
        still_from = longest_run([step < FROZEN for step in self.steps])[0]
        return {"worst_jump": (ratios.index(max(ratios)) + 1) / fps, "still_s": still_from / fps}

    def curves(self) -> dict[str, list[float]]:
        """Return what changes over time: a value for every frame, or for every step between two."""
        labs = torch.tensor(self.labs)
        shifts = delta_e(labs, labs[:1].expand_as(labs)).tolist()
        return {
            "motion": [100 * step for step in self.steps],
            "sharpness": self.details,
            "color_drift": shifts,
        }

    def _color_shifts(self) -> list[float]:
        """Return the color difference of each part of the clip from its first part."""
        parts = torch.tensor(self.labs).tensor_split(min(ENDS, len(self.labs)))
        return [float(delta_e(part.mean(0), parts[0].mean(0))) for part in parts]


def end_over_beginning(values: list[float]) -> float:
    """Return the mean of the last fifth of some values over the mean of the first fifth."""
    part = max(1, len(values) // ENDS)
    return fmean(values[-part:]) / max(fmean(values[:part]), 1e-9)


def jumps(steps: list[float]) -> list[float]:
    """Return every step divided by the median of the steps around it; 1 is a step like the others."""
    ratios = []
    for i, step in enumerate(steps):
        around = sorted(steps[max(0, i - NEIGHBORS) : i] + steps[i + 1 : i + 1 + NEIGHBORS])
        usual = around[len(around) // 2]
        ratios.append((step + STILL_STEP) / (usual + STILL_STEP))
    return ratios


def longest_run(marks: list[bool]) -> tuple[int, int]:
    """Return where the longest run of true marks begins, and its length."""
    best, start = (0, 0), 0
    for i, mark in enumerate(marks):
        start = start if mark else i + 1
        best = max(best, (start, i + 1 - start), key=lambda run: run[1])
    return best


def psnr(one: Tensor, other: Tensor) -> float:
    """Return the peak signal-to-noise ratio of two pictures in [0, 1], in dB."""
    error = float((one - other).square().mean())
    return MOST_PSNR if error <= 10 ** (-MOST_PSNR / 10) else -10 * math.log10(error)


def ssim(one: Tensor, other: Tensor) -> float:
    """Return the structural similarity of two pictures (H, W, 3) in [0, 1], the mean over pixels and channels.

    Source: Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", 2004; a Gaussian
    window of 11 pixels and sigma 1.5, where it fits whole.
    """
    side = min(11, *one.shape[:2])
    line = torch.exp(-((torch.arange(side, device=one.device) - (side - 1) / 2) ** 2) / (2 * 1.5**2))
    line = line / line.sum()

    def blurred(x: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(x, line.view(1, 1, -1, 1)), line.view(1, 1, 1, -1))

    x, y = one.movedim(-1, 0)[:, None].float(), other.movedim(-1, 0)[:, None].float()
    mean_x, mean_y = blurred(x), blurred(y)
    var_x, var_y = blurred(x * x) - mean_x**2, blurred(y * y) - mean_y**2
    cov = blurred(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    same = (2 * mean_x * mean_y + c1) * (2 * cov + c2)
    return float((same / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))).mean())

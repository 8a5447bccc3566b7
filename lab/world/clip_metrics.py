"""Measure sets of clips: flickering, sharpness, coverage, and how sure a mean is. Torch only."""

import torch
from torch import Tensor

DRAWS = 1000


def temporal_flickering(frames: Tensor) -> Tensor:
    """Return VBench's temporal flickering of every clip: 1 is no change from frame to frame.

    Args:
        frames: (B, T, 3, H, W) in [0, 1]; rounded to 8 bits first, as VBench reads them from a file.
    Returns:
        (B,): (255 - mean over frames of the mean absolute difference to the next) / 255.
    Source: VBench, ``vbench/temporal_flickering.py``, ``cal_score`` and ``mae_seq``.
    """
    bytes_ = (frames.float().clamp(0, 1) * 255).round()
    differences = bytes_.diff(dim=1).abs().flatten(2).mean(2)
    return (255 - differences.mean(1)) / 255


def laplacian_sharpness(frames: Tensor) -> Tensor:
    """Return the mean absolute Laplacian of the lightness of every clip (B,); frames (B, T, 3, H, W) in [0, 1]."""
    weights = torch.tensor([0.2126, 0.7152, 0.0722], device=frames.device)
    luma = (frames.float().clamp(0, 1) * weights[:, None, None]).sum(2)
    around = luma[..., :-2, 1:-1] + luma[..., 2:, 1:-1] + luma[..., 1:-1, :-2] + luma[..., 1:-1, 2:]
    return (4 * luma[..., 1:-1, 1:-1] - around).abs().flatten(1).mean(1)


def coverage_entropy(chosen: Tensor, allowed: Tensor) -> float:
    """Return how evenly choices are spread over what is allowed: 1 is uniform, 0 always the same.

    Args:
        chosen: (N,) index of what each of N samples of one prompt shows; choices that are not allowed are left out.
        allowed: (K,) bool, at least two of them.
    Returns:
        The entropy of the choices over that of the uniform one, corrected for few samples (Miller and Madow:
        plus (seen kinds - 1) / 2N) and at most 1; NaN where no sample is allowed.
    """
    counts = torch.bincount(chosen, minlength=len(allowed))[allowed].double()
    total = counts.sum()
    if total == 0:
        return float("nan")
    shares = counts[counts > 0] / total
    entropy = -(shares * shares.log()).sum() + (len(shares) - 1) / (2 * total)
    return min(1.0, float(entropy / allowed.sum().double().log()))


def bootstrap_interval(values: Tensor, generator: torch.Generator) -> tuple[float, float]:
    """Return the 95 % interval of a mean: percentiles of resampled means.

    Args:
        values: (N,) one value a clip.
    Source: Efron 1979.
    """
    values = values.double()
    rows = torch.randint(len(values), (DRAWS, len(values)), generator=generator)
    means = values[rows].mean(1)
    low, high = torch.quantile(means, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return low, high

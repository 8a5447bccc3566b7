"""Anchor a window's latent statistics to the first window, against slow drift of colour and contrast."""

from dataclasses import dataclass

from torch import Tensor

_DIMS = (-3, -2, -1)


@dataclass(frozen=True)
class LatentStatistics:
    """Mean and standard deviation of every channel; each (..., C, 1, 1, 1)."""

    mean: Tensor
    std: Tensor


def latent_statistics(latent: Tensor) -> LatentStatistics:
    """Read the statistics of every channel over time and space; latent: (..., C, T, H, W)."""
    return LatentStatistics(latent.mean(_DIMS, keepdim=True), latent.std(_DIMS, keepdim=True, correction=0))


def anchor_latent(latent: Tensor, reference: LatentStatistics, strength: float) -> Tensor:
    """Move every channel's mean and standard deviation towards the reference.

    Args:
        latent: (..., C, T, H, W), the new latent frames of a window.
        strength: 0 leaves the latent as it is, 1 gives it the reference's statistics.

    Raises:
        ValueError: the strength is outside [0, 1].
    """
    if not 0.0 <= strength <= 1.0:
        raise ValueError(f"anchor strength is {strength}; wanted 0 to 1")
    if strength == 0.0:
        return latent
    own = latent_statistics(latent)
    mean = own.mean.lerp(reference.mean.to(latent), strength)
    std = own.std.lerp(reference.std.to(latent), strength)
    return (latent - own.mean) * (std / own.std.clamp_min(1e-6)) + mean

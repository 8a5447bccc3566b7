"""Known latents as a long video hands them over: worn, with the errors of the model that made them.

In training a window's known latents are the truth, in a long video they are the model's own, and what each window gets
wrong the next one takes for given. Two wears are put on known latents, and the truth stays the answer: the errors that
the model makes now (the idea of "Stable Video Infinity: Infinite-Length Video Generation with Error Recycling", 2025),
and what errors come to after many windows (``drift``).
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ...model_patches.training.batch import TrainingBatch
from ...model_patches.training.losses import add_noise, denoised_estimate, per_clip
from ...model_patches.training.twin import Conditions, predict_velocity
from .drift import Drift
from .source import Windows, WorldSource

SIGMAS = (0.4, 0.95)
"""Noise levels at which the errors are made; above them the model does not find the clip again."""
WORN_SHARE, MOST_WEAR = 0.75, 2.0
"""How many windows have errors, and up to how many times as large as they were made."""


@torch.no_grad()
def worn(
    model: nn.Module,
    source: WorldSource,
    windows: Windows,
    batch: TrainingBatch,
    generator: torch.Generator,
) -> TrainingBatch:
    """Return a batch whose windows in mid-motion know their latents with a model's errors.

    The errors are of the window one latent earlier: what the model finds in its noised clip, minus the clip.

    Args:
        batch: of ``windows``, (B, C, T, H, W) latents; they are not changed.
    """
    middle = (windows.start > 0).nonzero()[:, 0]
    if len(middle) == 0:
        return batch
    later = windows[middle]
    earlier = Windows(later.rows, later.family, later.start - 1, torch.ones_like(later.num_known))
    known = source.shown(earlier)
    error = made(model, known, generator) - known.latents
    wear = MOST_WEAR * torch.rand(len(middle), generator=generator)
    wear *= torch.rand(len(middle), generator=generator) < WORN_SHARE
    latents = batch.latents.clone()
    reached = error.shape[2] - 1
    latents[middle, :, :reached] += per_clip(wear, error) * error[:, :, 1:]
    return replace(batch, latents=latents)


def made(model: nn.Module, batch: TrainingBatch, generator: torch.Generator) -> Tensor:
    """Return what a model finds in noised clips, (B, C, T, H, W)."""
    low, high = SIGMAS
    sigma = low + (high - low) * torch.rand(len(batch), generator=generator)
    noisy = add_noise(batch.latents, torch.randn(batch.latents.shape, generator=generator), sigma)
    velocity = predict_velocity(model, noisy, sigma, Conditions.of(batch, image=True))
    return denoised_estimate(noisy, velocity, sigma)


@dataclass(frozen=True)
class Wear:
    """What a long video does to known latents: they drift, and have the errors of the model as it is now."""

    model: nn.Module
    drift: Drift

    def put_on(
        self, source: WorldSource, windows: Windows, batch: TrainingBatch, generator: torch.Generator
    ) -> TrainingBatch:
        """Return a batch of these windows, worn where they start in mid-motion."""
        told = self.drift.put_on(source, windows, batch, generator)
        return worn(self.model, source, windows, told, generator)

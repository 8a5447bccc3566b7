"""Sample a DiT of the lab, for tables and for trainings that sample their own model."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ...model_patches.sampler import Denoise, few_step_sigmas
from ...model_patches.training.adapters import Role
from ...model_patches.training.batch import TrainingBatch
from ...model_patches.training.parallel import choose_device, quick_precision
from ...model_patches.training.sampling import guided_denoiser, sample
from ...model_patches.training.twin import Conditions, from_host, takes_image


@dataclass(frozen=True)
class Sampling:
    """How to sample a clip; guidance_w is w of the paper's eq. 7 (two forwards a step if it is not 0)."""

    steps: int
    shift: float = 5.0
    sampler: str = "euler"
    guidance_w: float = 0.0
    seed: int = 0


class Player:
    """A DiT ready to be sampled on a device, in bfloat16 if the device is fast at it."""

    def __init__(
        self, host: Mapping[str, Tensor], *, device: torch.device | None = None, precision: str | None = None
    ) -> None:
        self.image = takes_image(host)
        self.device = device or choose_device("auto")
        self.role = Role(from_host(host).to(self.device), {}, precision or quick_precision(self.device))

    @torch.no_grad()
    def sample(
        self,
        batch: TrainingBatch,
        sampling: Sampling,
        *,
        offset: int = 0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return (B, C, T, H, W) latents.

        Args:
            offset: the batch's first row, so that chunks differ in noise.
            generator: draws the noise; if None, one seeded by ``sampling.seed`` and ``offset``.
        """
        if generator is None:
            generator = torch.Generator().manual_seed(sampling.seed * 1_000_003 + offset)
        noise = torch.randn(batch.latents.shape, generator=generator)
        denoise = self.denoiser(batch.to(self.device), sampling.guidance_w)
        sigmas = few_step_sigmas(sampling.steps, sampling.shift)
        return sample(
            denoise, noise.to(self.device), sigmas, sampler=sampling.sampler, generator=generator
        ).cpu()

    def denoiser(self, batch: TrainingBatch, guidance_w: float):
        """Return the model as a denoiser, guided by w if that is not 0."""

        def on(empty: bool) -> Denoise:
            return self.role.denoiser(Conditions.of(batch, image=self.image, empty=empty))

        return guided_denoiser(on, guidance_w)

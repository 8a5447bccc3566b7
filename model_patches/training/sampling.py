"""Sample the student's own clips in training as they will be sampled afterwards (backward simulation).

Source: DMD2 section 4.5; Self-Forcing ``pipeline/self_forcing_training.py``: one call of the schedule, the same on
every process, is the last, and only it is differentiated.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ..sampler import Denoise, sample_euler, sample_renoise
from . import losses

DMD_SIGMA_MIN, DMD_SIGMA_MAX = 0.02, 0.98


def draw_last_call(num_steps: int, generator: torch.Generator) -> int:
    """Draw which call of a schedule of ``num_steps`` is the last, counted from 0, all equally likely."""
    return int(torch.randint(num_steps, (), generator=generator))


@torch.no_grad()
def sample(
    denoise: Denoise, noise: Tensor, sigmas: Tensor, *, sampler: str, generator: torch.Generator
) -> Tensor:
    """Return the state at the last of ``sigmas`` (N + 1,), from noise (B, C, T, H, W) at the first.

    Args:
        sampler: "euler" or "renoise"; students are trained with the one they will be sampled with.
        generator: source of the fresh noise of "renoise".
    """
    if sampler == "renoise":
        return sample_renoise(denoise, noise, sigmas, generator=generator)
    return sample_euler(denoise, noise, sigmas)


def guided_denoiser(denoiser: Callable[[bool], Denoise], guidance_w: float) -> Denoise:
    """Return a model guided by w of eq. 7, for the samplers; estimates of x0 mix as velocities do.

    Args:
        denoiser: returns the model on the prompt for False, on the empty prompt for True (only called if w is not 0).
    """
    prompted = denoiser(False)
    if guidance_w == 0:
        return prompted
    empty = denoiser(True)
    return lambda x, sigma: losses.guided(prompted(x, sigma), empty(x, sigma), guidance_w)


def shifted(uniform: Tensor, shift: float) -> Tensor:
    """Return sigma = s * u / (1 + (s - 1) * u)."""
    return shift * uniform / (1 + (shift - 1) * uniform)


def draw_sigma(count: int, shift: float, generator: torch.Generator) -> Tensor:
    """Return (B,) noise levels, uniform in time and shifted towards noise."""
    return shifted(torch.rand(count, generator=generator), shift)


def draw_dmd_sigma(count: int, shift: float, generator: torch.Generator) -> Tensor:
    """Return (B,) noise levels for real and fake model, kept off the ends, where an estimate says nothing."""
    return draw_sigma(count, shift, generator).clamp(DMD_SIGMA_MIN, DMD_SIGMA_MAX)

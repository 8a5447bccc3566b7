"""Two ways down a descending schedule: Euler on the velocity, and re-noising of the estimate.

Both see the model as ``denoise(x, sigma) -> denoised``, the estimate of the clean latent (x0), and keep their
state in float32. x_sigma = sigma * noise + (1 - sigma) * x0, so the velocity noise - x0 is (x - x0) / sigma.
"""

import itertools
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

Denoise = Callable[[Tensor, Tensor], Tensor]


class StepCallback(Protocol):
    """Told after each model call: the step, the state before it, its sigma and the estimate."""

    def __call__(self, i: int, x: Tensor, sigma: Tensor, denoised: Tensor) -> None: ...


def sample_euler(
    denoise: Denoise, x: Tensor, sigmas: Tensor, *, callback: StepCallback | None = None
) -> Tensor:
    """Follow the probability-flow ODE with one Euler step between neighbouring sigmas.

    Args:
        denoise: the model, x0 prediction.
        x: (B, C, T, H, W) the state at ``sigmas[0]``.
        sigmas: (N + 1,) descending.
    Returns:
        (B, C, T, H, W) float32, the state at ``sigmas[-1]``.
    Source: Magic141 inference code; x += v * (sigma_next - sigma).
    """
    x = x.float()
    for i, (sigma, sigma_next) in enumerate(itertools.pairwise(sigmas)):
        denoised = denoise(x, sigma).float()
        if callback is not None:
            callback(i, x, sigma, denoised)
        velocity = (x - denoised) / sigma
        x = x + velocity * (sigma_next - sigma)
    return x


def sample_renoise(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    *,
    generator: torch.Generator | None,
    callback: StepCallback | None = None,
) -> Tensor:
    """Estimate the clean latent, put fresh noise on it at the next sigma, and repeat.

    How DMD2-trained generators are sampled in the literature.

    Args:
        denoise: the model, x0 prediction.
        x: (B, C, T, H, W) the state at ``sigmas[0]``.
        sigmas: (N + 1,) descending.
        generator: source of the fresh noise. Drawn on the generator's own device, so a seed means the same
            clip on every accelerator when it lives on the CPU.
    Returns:
        (B, C, T, H, W) float32, the state at ``sigmas[-1]``.
    """
    x = x.float()
    for i, (sigma, sigma_next) in enumerate(itertools.pairwise(sigmas)):
        denoised = denoise(x, sigma).float()
        if callback is not None:
            callback(i, x, sigma, denoised)
        x = denoised
        if sigma_next > 0:
            noise = _fresh_noise(x, generator)
            x = sigma_next * noise + (1.0 - sigma_next) * denoised
    return x


def _fresh_noise(like: Tensor, generator: torch.Generator | None) -> Tensor:
    device = like.device if generator is None else generator.device
    return torch.randn(like.shape, generator=generator, device=device).to(like.device)

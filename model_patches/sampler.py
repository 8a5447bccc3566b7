"""Two ways down a descending schedule: Euler on the velocity, and re-noising of the estimate.

Both see the model as ``denoise(x, sigma) -> denoised``, the estimate of the clean latent (x0), and keep their
state in float32. x_sigma = sigma * noise + (1 - sigma) * x0, so the velocity noise - x0 is (x - x0) / sigma.
"""

import itertools
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

DEFAULT_SHIFT = 5.0
DEFAULT_STEPS = 4
SAMPLERS = ("euler", "renoise")


def few_step_sigmas(num_steps: int, shift: float = DEFAULT_SHIFT) -> Tensor:
    """Return the noise levels of ``num_steps`` denoising steps.

    Args:
        num_steps: 1 or more.
        shift: s in sigma' = s*sigma / (1 + (s-1)*sigma); 1 leaves the steps even.
    Returns:
        (num_steps + 1,) float32, from 1 down to 0. Four steps at shift 5: 1, 0.9375, 0.8333, 0.625, 0.
    Raises:
        ValueError: fewer than one step, or a shift that is not positive.
    Source: Magic141 inference code, FlowMatchDiscreteScheduler.
    """
    if num_steps < 1:
        raise ValueError(f"steps is {num_steps}; at least 1 is needed.")
    if not shift > 0:
        raise ValueError(f"shift is {shift}; it must be greater than 0 (this model was trained for 5).")
    sigmas = torch.linspace(1.0, 0.0, num_steps + 1, dtype=torch.float64)
    return (shift * sigmas / (1.0 + (shift - 1.0) * sigmas)).float()


Denoise = Callable[[Tensor, Tensor], Tensor]


class StepCallback(Protocol):
    """Called after each model call with the step, the state before it, its sigma and the estimate."""

    def __call__(self, i: int, x: Tensor, sigma: Tensor, denoised: Tensor) -> None: ...


def sample_euler(
    denoise: Denoise, x: Tensor, sigmas: Tensor, *, callback: StepCallback | None = None
) -> Tensor:
    """Follow the probability-flow ODE with one Euler step between neighboring sigmas.

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

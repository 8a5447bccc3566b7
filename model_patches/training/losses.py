"""The losses, as pure functions of tensors; eq. numbers are the Magic 1-For-1 paper's.

A velocity is u = z1 - z0 (noise minus clean latent), z_t = sigma * z1 + (1 - sigma) * z0, and an estimate of the
clean latent is z_t - sigma * u. Latents are (B, C, T, H, W), sigmas (B,).
"""

import torch.nn.functional as F
from torch import Tensor

NORMALIZER_FLOOR = 1e-6
"""Smallest divisor, where generator and real model already agree."""


def per_clip(values: Tensor, like: Tensor) -> Tensor:
    """Return (B,) values shaped to multiply (B, ...) latents."""
    return values.view(-1, *(1,) * (like.ndim - 1))


def add_noise(clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """Return z_t = sigma * z1 + (1 - sigma) * z0. Source: below eq. 4."""
    weight = per_clip(sigma, clean)
    return weight * noise + (1 - weight) * clean


def denoised_estimate(noisy: Tensor, velocity: Tensor, sigma: Tensor) -> Tensor:
    """Return z_t - sigma * u, the clean latent that a velocity points at. Source: the brackets of eq. 4."""
    return noisy - per_clip(sigma, noisy) * velocity


def flow_matching_loss(velocity: Tensor, clean: Tensor, noise: Tensor) -> Tensor:
    """Return the mean of (z1 - z0 - u)^2. Source: eq. 9; eq. 5 where ``clean`` is the generator's clip."""
    return F.mse_loss(velocity, noise - clean)


def guided(conditional: Tensor, unconditional: Tensor, guidance_w: float | Tensor) -> Tensor:
    """Return (1 + w) * c - w * u: the paper's convention, w = 0 is no guidance. Source: eq. 7."""
    w = per_clip(guidance_w, conditional) if isinstance(guidance_w, Tensor) else guidance_w
    return (1 + w) * conditional - w * unconditional


def cfg_distillation_loss(student: Tensor, guided: Tensor) -> Tensor:
    """Return the mean of (u_hat - u_student)^2; the teacher's guided velocity gets no gradient. Source: eq. 6."""
    return F.mse_loss(student, guided.detach())


def ode_step_loss(velocity: Tensor, start: Tensor, end: Tensor, span: Tensor) -> Tensor:
    """Return the mean of ((z_start - z_end) / span - u)^2: one Euler step of u should lead where the teacher does.

    Args:
        start, end: the teacher's states before and after; ``end`` gets no gradient.
        span: how much sigma falls between them, > 0.
    Source: Salimans and Ho 2022, progressive distillation, for velocities.
    """
    return F.mse_loss(velocity, ((start - end) / span).detach())


def dmd_gradient(generated: Tensor, real: Tensor, fake: Tensor, *, normalize: bool) -> Tensor:
    """Return the gradient of the KL divergence towards the real model with respect to the generated latent.

    Args:
        generated: the generator's clean latent.
        real, fake: the two models' estimates of it, ``denoised_estimate`` at one z_t.
        normalize: divide by mean |generated - real| of each clip. The paper has no such divisor; DMD2's code does.
    Source: eq. 4, where z_t cancels: x0_fake - x0_real.
    """
    gradient = fake - real
    if not normalize:
        return gradient
    distance = (generated - real).abs().flatten(1).mean(1).clamp_min(NORMALIZER_FLOOR)
    return gradient / per_clip(distance, gradient)


def surrogate_loss(generated: Tensor, gradient: Tensor) -> Tensor:
    """Return 0.5 * mse(x0, (x0 - g).detach()), whose gradient in x0 is g over the number of values.

    Source: DMD2 and Self-Forcing, ``model/dmd.py``.
    """
    return 0.5 * F.mse_loss(generated.double(), (generated.double() - gradient.double()).detach())

"""The schedule and the whole Euler trajectory against diffusers' FlowMatchEulerDiscreteScheduler."""

import numpy as np
import pytest
import torch
from magic141.model_patches.sampler import few_step_sigmas, sample_euler

diffusers = pytest.importorskip("diffusers")

TOLERANCE = 1e-6


def their_scheduler(num_steps, shift):
    """Set diffusers' scheduler up as its Hunyuan pipelines do: even sigmas in, shifted ones out."""
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 0.0, num_steps + 1)[:-1])
    return scheduler


@pytest.mark.parametrize("num_steps", [1, 2, 3, 4, 5, 8, 16, 28, 50, 56, 100])
@pytest.mark.parametrize("shift", [1.0, 5.0, 7.0])
def test_sigmas(num_steps, shift):
    theirs = their_scheduler(num_steps, shift).sigmas
    assert (few_step_sigmas(num_steps, shift) - theirs).abs().max() <= TOLERANCE


@pytest.mark.parametrize("num_steps", [1, 2, 4, 8])
def test_trajectory(num_steps):
    generator = torch.Generator().manual_seed(0)
    noise, weight = (
        torch.randn(1, 16, 3, 8, 8, generator=generator),
        torch.randn(16, 16, generator=generator) / 4,
    )

    def velocity(x, sigma):
        return torch.einsum("bcthw,dc->bdthw", torch.tanh(x), weight) + sigma * x

    scheduler = their_scheduler(num_steps, 5.0)
    theirs, their_states = noise, []
    for timestep in scheduler.timesteps:
        their_states.append(theirs)
        theirs = scheduler.step(velocity(theirs, timestep / 1000), timestep, theirs, return_dict=False)[0]

    our_states = []
    ours = sample_euler(
        lambda x, sigma: x - sigma * velocity(x, sigma),
        noise,
        few_step_sigmas(num_steps, 5.0),
        callback=lambda i, x, sigma, denoised: our_states.append(x),
    )
    for mine, their in zip([*our_states, ours], [*their_states, theirs], strict=True):
        assert ((mine - their).norm() / their.norm()) <= TOLERANCE

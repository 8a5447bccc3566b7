"""Euler and re-noise over a model whose answer is known."""

import pytest
import torch
from magic141.model_patches.sampler import few_step_sigmas, sample_euler, sample_renoise

SHAPE = (2, 16, 3, 4, 4)


@pytest.fixture
def clean():
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def noise():
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("num_steps", [1, 2, 4, 8])
def test_a_perfect_model_is_followed_exactly(clean, noise, num_steps):
    sigmas = few_step_sigmas(num_steps)
    euler = sample_euler(lambda x, sigma: clean, noise, sigmas)
    renoise = sample_renoise(
        lambda x, sigma: clean, noise, sigmas, generator=torch.Generator().manual_seed(2)
    )
    assert torch.allclose(euler, clean, atol=1e-6)
    assert torch.equal(renoise, clean)


def test_euler_stays_on_the_straight_line(clean, noise):
    seen = []
    sample_euler(
        lambda x, sigma: clean,
        noise,
        few_step_sigmas(4),
        callback=lambda i, x, sigma, denoised: seen.append((sigma, x)),
    )
    for sigma, x in seen:
        assert torch.allclose(x, sigma * noise + (1 - sigma) * clean, atol=1e-6)


def test_state_is_float32_whatever_the_model_returns(clean, noise):
    sigmas = few_step_sigmas(4)
    assert sample_euler(lambda x, s: clean.bfloat16(), noise.bfloat16(), sigmas).dtype == torch.float32
    assert sample_renoise(lambda x, s: clean.half(), noise, sigmas, generator=None).dtype == torch.float32


def test_renoise_adds_fresh_noise_at_the_next_sigma(clean, noise):
    sigmas = few_step_sigmas(4)
    states = []
    sample_renoise(
        lambda x, sigma: clean,
        noise,
        sigmas,
        generator=torch.Generator().manual_seed(2),
        callback=lambda i, x, sigma, denoised: states.append(x),
    )
    generator = torch.Generator().manual_seed(2)
    for sigma, state in zip(sigmas[1:], states[1:], strict=False):
        expected = sigma * torch.randn(SHAPE, generator=generator) + (1 - sigma) * clean
        assert torch.allclose(state, expected, atol=1e-6)


def test_one_model_call_a_step_and_one_step_of_both_is_the_same(clean, noise):
    calls = []

    def denoise(x, sigma):
        calls.append(float(sigma))
        return 0.5 * x

    one = sample_euler(denoise, noise, few_step_sigmas(1))
    other = sample_renoise(denoise, noise, few_step_sigmas(1), generator=None)
    assert torch.allclose(one, other)
    sample_euler(denoise, noise, few_step_sigmas(4))
    assert calls[2:] == pytest.approx([1.0, 0.9375, 0.833333, 0.625])


def test_a_callback_may_stop_the_run(clean, noise):
    def stop(i, x, sigma, denoised):
        raise InterruptedError

    calls = []
    with pytest.raises(InterruptedError):
        sample_euler(lambda x, sigma: calls.append(sigma) or clean, noise, few_step_sigmas(4), callback=stop)
    assert len(calls) == 1


def test_four_steps_at_shift_five():
    assert torch.allclose(few_step_sigmas(4), torch.tensor([1.0, 0.9375, 0.833333, 0.625, 0.0]), atol=1e-6)


@pytest.mark.parametrize("num_steps", [1, 2, 3, 4, 8, 16, 28, 56, 1000])
@pytest.mark.parametrize("shift", [1.0, 3.0, 5.0, 7.0])
def test_descends_from_one_to_zero(num_steps, shift):
    sigmas = few_step_sigmas(num_steps, shift)
    assert sigmas.shape == (num_steps + 1,)
    assert sigmas.dtype == torch.float32
    assert sigmas[0] == 1.0
    assert sigmas[-1] == 0.0
    assert (sigmas.diff() < 0).all()


def test_shift_one_is_even():
    assert torch.allclose(few_step_sigmas(10, 1.0).diff(), torch.tensor(-0.1))


@pytest.mark.parametrize(
    ("num_steps", "shift", "said"),
    [(0, 5.0, "steps is 0"), (4, 0.0, "shift is 0"), (4, float("nan"), "shift is nan")],
)
def test_bad_settings_of_the_schedule_are_named(num_steps, shift, said):
    with pytest.raises(ValueError, match=said):
        few_step_sigmas(num_steps, shift)


def test_fresh_noise_lies_where_the_latent_does():
    """A generator of the processor serves a latent anywhere."""
    latent = torch.empty(1, 4, 2, 8, 8, device="meta")
    made = sample_renoise(lambda x, sigma: x, latent, few_step_sigmas(2), generator=torch.Generator())
    assert made.device == latent.device

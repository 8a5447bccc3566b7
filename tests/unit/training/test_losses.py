"""Every training loss against values worked out by hand."""

import pytest
import torch
from magic141.model_patches.training import losses
from torch import Tensor


def latents(*clips: list[float]) -> Tensor:
    """Return (B, 1, 1, 1, n) latents of listed values."""
    return torch.tensor(clips)[:, None, None, None]


def test_noise_and_estimate_are_each_others_inverse():
    clean, noise, sigma = (
        latents([2.0, 0.0], [1.0, -1.0]),
        latents([0.0, 4.0], [3.0, 3.0]),
        torch.tensor([0.25, 0.5]),
    )
    noisy = losses.add_noise(clean, noise, sigma)
    assert noisy.flatten().tolist() == [1.5, 1.0, 2.0, 1.0]
    assert torch.equal(losses.denoised_estimate(noisy, noise - clean, sigma), clean)


def test_flow_matching_loss():
    # targets 1-3 = -2 and 2-0 = 2; errors 1 and 2
    loss = losses.flow_matching_loss(latents([-1.0, 0.0]), latents([3.0, 0.0]), latents([1.0, 2.0]))
    assert loss.item() == pytest.approx((1 + 4) / 2)


def test_guidance_by_the_papers_w():
    conditional, unconditional = latents([1.0]), latents([0.5])
    assert losses.guided(conditional, unconditional, 2.0).item() == 3 * 1.0 - 2 * 0.5
    assert losses.guided(conditional, unconditional, 0.0).item() == 1.0


def test_a_guidance_strength_for_each_clip():
    conditional, unconditional = latents([1.0, 2.0], [1.0, 2.0]), latents([0.0, 0.0], [0.0, 0.0])
    guided = losses.guided(conditional, unconditional, torch.tensor([1.0, 4.0]))
    assert guided.flatten().tolist() == [2.0, 4.0, 5.0, 10.0]


def test_ode_step_loss_wants_the_mean_velocity_of_the_way():
    # (3 - 1) / 0.5 = 4 and (0 - 1) / 0.5 = -2; errors 1 and 2
    loss = losses.ode_step_loss(
        latents([5.0, 0.0]), latents([3.0, 0.0]), latents([1.0, 1.0]), torch.tensor(0.5)
    )
    assert loss.item() == pytest.approx((1 + 4) / 2)


def test_the_guided_teacher_gets_no_gradient():
    student = latents([1.0, 1.0]).requires_grad_()
    guided = latents([3.0, 0.0]).requires_grad_()
    cfg = losses.cfg_distillation_loss(student, guided)
    assert cfg.item() == pytest.approx((4 + 1) / 2)
    cfg.backward()
    assert guided.grad is None
    # d/dx of mean((x - y)^2)
    assert student.grad.flatten().tolist() == [-2.0, 1.0]


def test_dmd_gradient_points_from_real_to_fake():
    generated, real, fake = latents([1.0, 1.0]), latents([0.0, 2.0]), latents([0.5, 1.5])
    assert losses.dmd_gradient(generated, real, fake, normalize=False).flatten().tolist() == [0.5, -0.5]


def test_dmd_normaliser_is_one_number_a_clip():
    generated, real = latents([1.0, 1.0], [4.0, 0.0]), latents([0.0, 4.0], [0.0, 0.0])
    fake = real + 1.0
    gradient = losses.dmd_gradient(generated, real, fake, normalize=True)
    assert gradient.flatten().tolist() == [
        0.5,
        0.5,
        0.5,
        0.5,
    ]  # both clips' distances are (1+3)/2 = (4+0)/2 = 2
    same = losses.dmd_gradient(real, real, real, normalize=True)
    assert same.abs().max() == 0  # not NaN


def test_equation_4_written_out():
    """-( [z_t - s u_real] - [z_t - s u_fake] ) by hand: s * (u_real - u_fake)."""
    sigma = torch.tensor([0.5])
    noisy, u_real, u_fake = latents([7.0]), latents([3.0]), latents([1.0])
    real, fake = (losses.denoised_estimate(noisy, u, sigma) for u in (u_real, u_fake))
    assert losses.dmd_gradient(noisy, real, fake, normalize=False).item() == 0.5 * (3.0 - 1.0)


def test_surrogate_has_the_gradient_it_was_given():
    generated = latents([1.0, -2.0, 0.0, 5.0]).requires_grad_()
    gradient = latents([0.5, 1.0, -1.0, 0.0])
    loss = losses.surrogate_loss(generated, gradient)
    assert loss.item() == pytest.approx(0.5 * (0.25 + 1 + 1 + 0) / 4)
    loss.backward()
    assert torch.allclose(generated.grad * generated.numel(), gradient)


def test_where_generator_and_real_model_agree_the_divisor_has_a_floor():
    generated, fake = latents([1.0, 2.0]), latents([1.5, 2.0])
    gradient = losses.dmd_gradient(generated, generated, fake, normalize=True)
    assert gradient.flatten().tolist() == pytest.approx([0.5e6, 0.0])

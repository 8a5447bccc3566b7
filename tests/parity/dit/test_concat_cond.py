"""Image latent and mask through the host's own concat_cond, against the formulae; the surgery through its DiT."""

import pytest
import torch
from magic141.model_patches.dit.channels import expand_input_channels, known_frames_condition
from magic141.tests.support.tiny_dit import TEXT_WIDTH, tiny_dit
from magic141.tools.host import use_comfyui

use_comfyui()
import comfy.sd

SCALING_FACTOR = 0.476986


def load(state_dict):
    return comfy.sd.load_diffusion_model_state_dict(dict(state_dict)).model


@pytest.mark.parametrize("positions", [[0], [0, 1], [0, 1, 2], [0, 4], [4]])
def test_order_scale_and_mask(positions):
    known = torch.randn(1, 16, len(positions), 6, 8, generator=torch.Generator().manual_seed(0))
    first, last = (known[:, :, :-1], known[:, :, -1:]) if positions[-1] == 4 else (known, None)
    concat_latent, concat_mask = known_frames_condition(first, 5, last=last)
    noise = torch.randn(1, 16, 5, 6, 8)
    channels = load(tiny_dit(33)).concat_cond(
        concat_latent_image=concat_latent, concat_mask=concat_mask, noise=noise, device="cpu"
    )

    image, mask = torch.zeros(1, 16, 5, 6, 8), torch.zeros(1, 1, 5, 6, 8)
    image[:, :, positions] = known * SCALING_FACTOR
    mask[:, :, positions] = 1.0
    assert torch.allclose(channels, torch.cat([image, mask], dim=1))


def test_skyreels_takes_no_mask():
    concat_latent, concat_mask = known_frames_condition(torch.randn(1, 16, 1, 6, 8), 5)
    channels = load(tiny_dit(32)).concat_cond(
        concat_latent_image=concat_latent,
        concat_mask=concat_mask,
        noise=torch.randn(1, 16, 5, 6, 8),
        device="cpu",
    )
    assert torch.allclose(channels, concat_latent * SCALING_FACTOR)


@pytest.mark.parametrize("guidance", [False, True])
@torch.inference_mode()
def test_surgery_changes_nothing_whatever_the_image(guidance):
    weights = tiny_dit(16, guidance=guidance)
    before, after = load(weights).diffusion_model, load(expand_input_channels(weights)).diffusion_model
    generator = torch.Generator().manual_seed(0)
    x, image = (
        torch.randn(1, 16, 3, 6, 8, generator=generator),
        torch.randn(1, 17, 3, 6, 8, generator=generator),
    )
    given = (
        torch.tensor([937.5]),
        torch.randn(1, 7, TEXT_WIDTH, generator=generator),
        torch.randn(1, 768, generator=generator),
    )
    embedded = torch.tensor([6.0]) if guidance else None
    theirs = before(x, *given, guidance=embedded)
    for scale in (0.0, 1.0, 100.0):
        ours = after(torch.cat([x, scale * image], dim=1), *given, guidance=embedded)
        assert (ours - theirs).norm() / theirs.norm() < 1e-6

"""Known frames, mask and the T2V -> TI2V surgery."""

import pytest
import torch
from magic141.model_patches.dit.channels import expand_input_channels, known_frames_condition
from magic141.tests.support.tiny_dit import tiny_dit


@pytest.mark.parametrize("num_known", [1, 2, 4])
def test_first_frames_are_known(num_known):
    known = torch.randn(2, 16, num_known, 4, 6)
    latent, mask = known_frames_condition(known, 4)
    assert latent.shape == (2, 16, 4, 4, 6)
    assert mask.shape == (2, 1, 4, 4, 6)
    assert torch.equal(latent[:, :, :num_known], known)
    assert (latent[:, :, num_known:] == 0).all()
    assert (mask[:, :, :num_known] == 0).all()
    assert (mask[:, :, num_known:] == 1).all()


def test_first_and_last_frame():
    known = torch.randn(1, 16, 2, 4, 4)
    latent, mask = known_frames_condition(known[:, :, :1], 5, last=known[:, :, 1:])
    assert torch.equal(latent[:, :, [0, 4]], known)
    assert mask[0, 0, :, 0, 0].tolist() == [0, 1, 1, 1, 0]


def test_surgery_copies_the_first_channels_and_shares_the_rest():
    before = tiny_dit(16)
    after = expand_input_channels(before)
    assert after["img_in.proj.weight"].shape == (128, 33, 1, 2, 2)
    assert torch.equal(after["img_in.proj.weight"][:, :16], before["img_in.proj.weight"])
    assert (after["img_in.proj.weight"][:, 16:] == 0).all()
    assert before["img_in.proj.weight"].shape[1] == 16
    assert all(after[key] is before[key] for key in before if key != "img_in.proj.weight")


def test_surgery_on_fp8_weights():
    weights = {"img_in.proj.weight": torch.randn(8, 16, 1, 2, 2).to(torch.float8_e4m3fn)}
    assert expand_input_channels(weights)["img_in.proj.weight"].dtype == torch.float8_e4m3fn

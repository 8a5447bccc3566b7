"""Decoding in pieces against decoding whole, with the host's own VAE networks."""

import pytest
import torch
from magic141.tools.host import use_comfyui

use_comfyui()

from magic141.model_patches.bridge.vae import (
    context_latent_frames,
    context_start,
    decode_continuation,
    decode_frames,
    encode_frames,
    kept_latent_frames,
)
from magic141.tests.support.tiny_vae import open_hunyuan_vae, open_taehv


def smooth_latent(num_latent: int, side: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    latent = torch.randn(1, 16, num_latent, side, side, generator=generator)
    for t in range(1, num_latent):
        latent[:, :, t] = 0.9 * latent[:, :, t - 1] + 0.19**0.5 * latent[:, :, t]
    return latent


@pytest.fixture(autouse=True)
def inference_mode():
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def taehv():
    return open_taehv()


@pytest.fixture(scope="module")
def hunyuan():
    return open_hunyuan_vae()


def piecewise(vae, latent: torch.Tensor, sizes: list[int]) -> torch.Tensor:
    """Decode window by window, keeping only what ``kept_latent_frames`` says."""
    frames = [decode_frames(vae, latent[:, :, : sizes[0]])]
    done = sizes[0]
    for size in sizes[1:]:
        before = latent[:, :, max(0, done - kept_latent_frames(vae)) : done]
        frames.append(decode_continuation(vae, before, latent[:, :, done : done + size], num_before=done))
        done += size
    return torch.cat(frames)


def test_taehv_needs_eight_latent_frames_and_then_every_frame_is_the_same(taehv):
    assert context_latent_frames(taehv) == 8
    latent = smooth_latent(16, 2)
    assert torch.equal(piecewise(taehv, latent, [4, 3, 3, 3, 3]), decode_frames(taehv, latent))


def test_taehv_with_less_context_dims_or_bends_the_seam(taehv):
    latent = smooth_latent(12, 2)
    whole = decode_frames(taehv, latent)[-4:]
    errors = [
        float((decode_frames(taehv, latent[:, :, 11 - context :])[-4:] - whole).abs().max())
        for context in range(1, 9)
    ]
    assert errors[-1] == 0.0
    assert all(error > 0 for error in errors[:-1])


def test_hunyuan_pairs_stay_together(hunyuan):
    for before in range(9, 15):
        first_kept = before - kept_latent_frames(hunyuan)
        assert context_start(hunyuan, first_kept=first_kept, num_before=before) % 2 == 0
    assert context_start(hunyuan, first_kept=0, num_before=3) == 0
    assert context_start(hunyuan, first_kept=1, num_before=4) == 1


def test_hunyuan_context_brings_the_seam_close_but_never_exact(hunyuan):
    latent = smooth_latent(14, 4)
    whole = decode_frames(hunyuan, latent)[-4:]

    def error(start: int) -> float:
        return float((decode_frames(hunyuan, latent[:, :, start:])[-4:] - whole).abs().mean())

    assert error(12) > error(8) > error(4) > 0
    assert error(4) < error(5), "an odd start splits the decoder's pairs"


@pytest.mark.parametrize("vae_name", ["taehv", "hunyuan"])
def test_windows_have_neither_doubled_nor_dropped_frames(vae_name, request):
    vae = request.getfixturevalue(vae_name)
    assert piecewise(vae, smooth_latent(9, 2), [4, 3, 2]).shape[0] == 33


def test_re_encoding_a_tail_groups_frames_as_the_decoder_does(taehv, hunyuan):
    frames = torch.rand(9, 16, 16, 3, generator=torch.Generator().manual_seed(1))
    for vae in (taehv, hunyuan):
        latent = encode_frames(vae, frames)
        assert latent.shape[2] == 3
        changed = frames.clone()
        changed[5:] = 0.5
        same = (encode_frames(vae, changed) - latent).abs().amax((0, 1, 3, 4))
        assert same[2] > 0
        if vae is taehv:
            assert same[:2].tolist() == [0, 0], "frames 5-8 belong to latent 2 alone"

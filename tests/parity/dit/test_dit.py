"""The host's DiT against diffusers' HunyuanVideoTransformer3DModel on the same tiny random weights."""

import pytest
import torch
from magic141.model_patches.dit.diffusers_config import diffusers_config
from magic141.model_patches.dit.keys import host_to_diffusers
from magic141.tests.support.tiny_dit import TEXT_WIDTH, tiny_dit
from magic141.tools.host import use_comfyui

use_comfyui()
diffusers = pytest.importorskip("diffusers")
import comfy.sd

TOLERANCE = 1e-4
PADDED_LENGTH = 11


def both(**options):
    """Return (ours, theirs): the host's DiT and diffusers' on one state dict."""
    weights = tiny_dit(**options)
    theirs = diffusers.HunyuanVideoTransformer3DModel(**diffusers_config(weights))
    theirs.load_state_dict(host_to_diffusers(weights), strict=True)
    ours = comfy.sd.load_diffusion_model_state_dict(dict(weights)).model.diffusion_model
    return ours, theirs.eval()


def inputs(channels: int, *, lengths=(7,), num_latent_frames=3, padded=False, seed=1):
    generator = torch.Generator().manual_seed(seed)
    batch = len(lengths)
    length = PADDED_LENGTH if padded else max(lengths)
    positions = torch.arange(length)[None]
    return {
        "x": torch.randn(batch, channels, num_latent_frames, 6, 8, generator=generator),
        "timestep": torch.full((batch,), 833.3333),
        "text": torch.randn(batch, length, TEXT_WIDTH, generator=generator),
        "mask": (positions < torch.tensor(lengths)[:, None]).long(),
        "pooled": torch.randn(batch, 768, generator=generator),
    }


@torch.inference_mode()
def run_theirs(model, given, guidance):
    embedded = None if guidance is None else torch.full((len(given["x"]),), guidance * 1000.0)
    return model(
        given["x"],
        given["timestep"],
        given["text"],
        given["mask"],
        given["pooled"],
        embedded,
        return_dict=False,
    )[0]


@torch.inference_mode()
def run_ours(model, given, guidance):
    """Call the host's DiT as our encoders have it called: each sample's text padding stripped."""
    embedded = None if guidance is None else torch.tensor([guidance])
    samples = []
    for i, length in enumerate(given["mask"].sum(1).tolist()):
        sample = {k: v[i : i + 1] for k, v in given.items()}
        samples.append(
            model(
                sample["x"],
                sample["timestep"],
                sample["text"][:, :length],
                sample["pooled"],
                guidance=embedded,
            )
        )
    return torch.cat(samples)


def relative_error(ours, theirs):
    return ((ours - theirs).norm() / theirs.norm()).item()


@pytest.mark.parametrize("guidance", [None, 6.0, 1.0])
@pytest.mark.parametrize("channels", [33, 16])
@pytest.mark.parametrize("padded", [False, True], ids=["unpadded", "padded"])
def test_one_sample(channels, guidance, padded):
    ours, theirs = both(in_channels=channels, guidance=guidance is not None)
    given = inputs(channels, padded=padded)
    assert relative_error(run_ours(ours, given, guidance), run_theirs(theirs, given, guidance)) < TOLERANCE


@pytest.mark.parametrize("guidance", [None, 6.0])
def test_batch_of_unequal_text_lengths(guidance):
    ours, theirs = both(guidance=guidance is not None)
    given = inputs(33, lengths=(5, 9), padded=True)
    assert relative_error(run_ours(ours, given, guidance), run_theirs(theirs, given, guidance)) < TOLERANCE


def test_one_latent_frame():
    ours, theirs = both()
    given = inputs(33, num_latent_frames=1)
    assert relative_error(run_ours(ours, given, None), run_theirs(theirs, given, None)) < TOLERANCE


def test_deeper_and_wider():
    ours, theirs = both(hidden_size=256, depth=2, depth_single=3, guidance=True)
    given = inputs(33)
    assert relative_error(run_ours(ours, given, 3.5), run_theirs(theirs, given, 3.5)) < TOLERANCE


def test_patches_of_one_latent():
    """The embedded model's: a 2x2 patch would be too much noise for its width."""
    ours, theirs = both(patch=1)
    given = inputs(33)
    assert relative_error(run_ours(ours, given, None), run_theirs(theirs, given, None)) < TOLERANCE


def test_unstripped_padding_is_what_differs():
    """Keep the reason for stripping: with the padding left in, the two token refiners average different tokens."""
    ours, theirs = both()
    given = inputs(33, padded=True)
    with torch.inference_mode():
        padded = ours(
            given["x"], given["timestep"], given["text"], given["pooled"], attention_mask=given["mask"]
        )
    assert relative_error(padded, run_theirs(theirs, given, None)) > 10 * TOLERANCE

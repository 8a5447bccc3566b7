"""Models whose weights stay packed, as GGUF loaders give them, against the same weights unpacked."""

import pytest
import torch
from magic141.tests.support import tiny_host_clip
from magic141.tests.support.gguf_files import is_to_be_packed, unpacked, write_gguf
from magic141.tests.support.tiny_clip import empty_latent, tiny_conditioning
from magic141.tests.support.tiny_dit import tiny_dit
from magic141.tests.support.tiny_lora import apply_lora, lora_for
from magic141.tools.host import use_comfyui

use_comfyui()

import comfy.sd
from magic141.model_patches.bridge.encoders.from_clip import encoders_from_clip
from magic141.model_patches.bridge.sampling import Sampling, sample_clip
from magic141.model_patches.sampler import few_step_sigmas
from magic141.tests.support.gguf_pack import PackedOperations, PackedPatcher, is_packed, read_gguf


@pytest.fixture(autouse=True)
def inference_mode():
    with torch.inference_mode():
        yield


@pytest.fixture
def packed(tmp_path):
    """A DiT from a GGUF file."""
    write_gguf(tmp_path / "tiny.gguf", tiny_dit(33))
    weights = read_gguf(str(tmp_path / "tiny.gguf"))
    options = {"custom_operations": PackedOperations}
    return PackedPatcher.of(comfy.sd.load_diffusion_model_state_dict(weights, model_options=options))


@pytest.fixture
def plain():
    """The same weights, unpacked."""
    return comfy.sd.load_diffusion_model_state_dict(unpacked(tiny_dit(33)))


def sample(model):
    conditioning = tiny_conditioning()
    return sample_clip(
        model, conditioning, conditioning, empty_latent(), Sampling(sigmas=few_step_sigmas(2), seed=1)
    )


def relative_error(ours, theirs) -> float:
    return float((ours - theirs).norm() / theirs.norm())


def test_weights_stay_packed_and_the_clip_is_that_of_the_unpacked_weights(packed, plain):
    assert sum(map(is_packed, packed.model.parameters())) > 20
    assert all(
        value.is_meta for key, value in packed.model.state_dict().items() if key.endswith("qkv.weight")
    )
    clip = sample(packed)
    assert relative_error(clip, sample(plain)) < 1e-5
    assert sum(map(is_packed, packed.model.parameters())) > 20


def test_a_lora_acts_on_packed_weights_and_leaves_with_its_model(packed, plain):
    lora = lora_for(plain, 0.3)
    without, with_lora = sample(packed), sample(apply_lora(packed, lora, "full"))
    assert relative_error(with_lora, sample(apply_lora(plain, lora, "full"))) < 1e-5
    assert relative_error(with_lora, without) > 0.01
    assert torch.equal(sample(packed), without)


def test_the_states_of_a_packed_llama_are_those_of_the_unpacked_one(tmp_path):
    folders = tiny_host_clip.write_folders(tmp_path)
    plain, clip = tiny_host_clip.host_clip(*folders), tiny_host_clip.host_clip(*folders, PackedOperations)
    weights = plain.cond_stage_model.llama.transformer.state_dict()
    assert any(map(is_to_be_packed, weights.values()))
    write_gguf(tmp_path / "llama.gguf", weights, "llama")
    plain.cond_stage_model.llama.transformer.load_state_dict(unpacked(weights))
    clip.cond_stage_model.llama.transformer.load_state_dict(read_gguf(str(tmp_path / "llama.gguf")))
    clip.patcher = PackedPatcher.of(clip.patcher)
    ours, theirs = (encoders_from_clip(each).backend.prompt_states("a red star") for each in (clip, plain))
    assert relative_error(ours[0], theirs[0]) < 1e-5
    assert torch.equal(ours[1], theirs[1])

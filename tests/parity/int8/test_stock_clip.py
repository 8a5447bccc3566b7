"""Encoders made from stock CLIP and CLIP_VISION in int8 against themselves."""

import pytest
import torch
from magic141.model_patches.int8.quantize import QuantizationPlan
from magic141.tests.support.tiny_host_clip import host_clip, host_clip_vision, write_folders
from magic141.tools.host import use_comfyui

use_comfyui()
pytest.importorskip("transformers")
import comfy.model_management
from magic141.model_patches.bridge.encoders.from_clip import encoders_from_clip
from magic141.model_patches.bridge.int8.encoders import encoders_bytes, quantize_encoders
from magic141.model_patches.bridge.int8_ops import is_quantized

PLAN = QuantizationPlan()
PROMPT = "a large red star moves right fast"
LAYER = "llama.transformer.model.layers.0.mlp.up_proj"


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    llava, clip = write_folders(tmp_path_factory.mktemp("stock"))
    with torch.inference_mode():
        return encoders_from_clip(host_clip(llava, clip), host_clip_vision(llava))


def encode(encoders):
    encoders._results.clear()
    image = torch.rand(1, 40, 48, 3, generator=torch.Generator().manual_seed(0))
    states, extra = encoders.encode(PROMPT, images=image).positive[0]
    return states, extra["pooled_output"]


def models(encoders):
    return encoders.backend.clip.cond_stage_model, encoders.backend.clip_vision.model


def quantized_names(encoders):
    return [{n for n, m in model.named_modules() if is_quantized(m)} for model in models(encoders)]


def error(states, reference):
    return float((states - reference).norm() / reference.norm())


def test_states_stay_close_and_the_original_stays_itself(encoders):
    before, pooled = encode(encoders)
    after, pooled_after = encode(quantize_encoders(encoders, PLAN))
    assert after.shape == before.shape
    assert 0 < error(after, before) < 0.03
    assert torch.equal(pooled, pooled_after)
    assert torch.equal(encode(encoders)[0], before)
    assert quantized_names(encoders) == [set(), set()]


def test_every_linear_of_llama_and_tower_and_nothing_else_is_int8(encoders):
    llm, tower = quantized_names(quantize_encoders(encoders, PLAN))
    linears = [
        {n for n, m in model.named_modules() if hasattr(m, "in_features")} for model in models(encoders)
    ]
    assert llm == {name for name in linears[0] if name.startswith("llama.transformer.")}
    assert tower == {name for name in linears[1] if name.startswith(("vision_model.encoder.", "multi_modal"))}
    assert LAYER in llm
    assert any(name.startswith("multi_modal_projector") for name in tower)


def test_llm_and_vlm_can_be_chosen(encoders):
    llm, tower = quantized_names(quantize_encoders(encoders, PLAN, vlm=False))
    assert llm
    assert not tower
    llm, tower = quantized_names(quantize_encoders(encoders, PLAN, llm=False))
    assert tower
    assert not llm


def test_size_and_lowvram(encoders):
    quantized = quantize_encoders(encoders, PLAN)
    assert encoders_bytes(quantized) < encoders_bytes(encoders)
    before, _ = encode(quantized)
    comfy.model_management.unload_all_models()
    patcher = quantized.backend.clip.patcher
    patcher.patch_model(patcher.load_device, lowvram_model_memory=1)
    assert torch.equal(encode(quantized)[0], before)
    patcher.unpatch_model(patcher.offload_device)


def test_a_lora_on_the_clip_stays_and_is_not_rounded(encoders):
    clip = encoders.backend.clip.clone()
    weight = clip.cond_stage_model.get_submodule(LAYER).weight
    change = torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)) * weight.std() * 0.3
    clip.add_patches({f"{LAYER}.weight": ("diff", (change,))})
    patched = encoders_from_clip(clip, encoders.backend.clip_vision)
    effect = encode(patched)[0] - encode(encoders)[0]
    twin = quantize_encoders(patched, PLAN)  # while the patch is merged
    found = encode(twin)[0] - encode(quantize_encoders(encoders, PLAN))[0]
    cosine = float((found * effect).sum() / (found.norm() * effect.norm()))
    assert cosine > 0.95
    assert 0.9 < float(found.norm() / effect.norm()) < 1.1


def test_twice_is_refused(encoders):
    quantized = quantize_encoders(encoders, PLAN)
    with pytest.raises(ValueError, match="quantized already"):
        quantize_encoders(quantized, PLAN)

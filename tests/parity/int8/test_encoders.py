"""The encoders' LLM and VLM in int8 against themselves."""

import pytest
import torch
from magic141.model_patches.int8.quantize import QuantizationPlan
from magic141.tests.support.tiny_encoders import write_clip_folder, write_llava_folder
from magic141.tools.host import use_comfyui

use_comfyui()
pytest.importorskip("transformers")
import comfy.model_management
from magic141.model_patches.bridge.encoders.socket import load_encoders
from magic141.model_patches.bridge.int8.encoders import encoders_bytes, quantize_encoders
from magic141.model_patches.bridge.int8_ops import is_quantized

PLAN = QuantizationPlan()
PROMPT = "a large red star moves right fast"


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoders")
    return load_encoders(write_llava_folder(folder / "llava"), write_clip_folder(folder / "clip"))


def encode(encoders):
    image = torch.rand(1, 40, 48, 3, generator=torch.Generator().manual_seed(0))
    return encoders.encode(PROMPT, images=image).positive[0][0]


def quantized_names(encoders):
    return {name for name, module in encoders.backend.vlm.named_modules() if is_quantized(module)}


def test_states_stay_close_and_the_original_stays_itself(encoders):
    before = encode(encoders)
    quantized = quantize_encoders(encoders, PLAN)
    after = encode(quantized)
    assert after.shape == before.shape
    assert float((after - before).norm() / before.norm()) < 0.03
    encoders._results.clear()
    assert torch.equal(encode(encoders), before)
    assert not quantized_names(encoders)


def test_every_linear_and_nothing_else_is_int8(encoders):
    names = quantized_names(quantize_encoders(encoders, PLAN))
    linears = {n for n, m in encoders.backend.vlm.named_modules() if isinstance(m, torch.nn.Linear)}
    assert names == linears
    assert any(name.startswith("language_model.layers.") for name in names)


def test_llm_and_vlm_can_be_chosen(encoders):
    assert all(
        n.startswith("language_model") for n in quantized_names(quantize_encoders(encoders, PLAN, vlm=False))
    )
    assert not any(
        n.startswith("language_model") for n in quantized_names(quantize_encoders(encoders, PLAN, llm=False))
    )


def test_host_counts_the_smaller_size_and_unloads_it(encoders):
    quantized = quantize_encoders(encoders, PLAN)
    patcher = quantized.backend.vlm_patcher
    assert patcher.model_size() == encoders_bytes(quantized) < 0.6 * encoders_bytes(encoders)
    before = encode(quantized)
    comfy.model_management.unload_all_models()
    quantized._results.clear()
    assert torch.equal(encode(quantized), before)


def test_lowvram_gives_the_same_states(encoders):
    quantized = quantize_encoders(encoders, PLAN)
    before = encode(quantized)
    comfy.model_management.unload_all_models()
    patcher = quantized.backend.vlm_patcher
    patcher.patch_model(patcher.load_device, lowvram_model_memory=1)
    quantized._results.clear()
    assert torch.equal(encode(quantized), before)
    patcher.unpatch_model(patcher.offload_device)


def test_twice_is_refused(encoders):
    quantized = quantize_encoders(encoders, PLAN)
    with pytest.raises(ValueError, match="quantized already"):
        quantize_encoders(quantized, PLAN)


def test_nan_is_refused_by_layer(encoders):
    layer = encoders.backend.vlm.language_model.layers[0].mlp.up_proj
    kept = layer.weight.data.clone()
    layer.weight.data[0, 0] = torch.nan
    try:
        with pytest.raises(ValueError, match=r"language_model\.layers\.0\.mlp\.up_proj.*NaN or Inf"):
            quantize_encoders(encoders, PLAN)
    finally:
        layer.weight.data.copy_(kept)

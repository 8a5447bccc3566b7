"""Text encoders of the host: file to int8 file to stock Load CLIP, against the file in fp32."""

import pytest
import torch
from magic141.model_patches.dit.shards import read_model_header
from magic141.model_patches.int8.choice import plan_file
from magic141.model_patches.int8.quantize import QuantizationPlan
from magic141.tools.host import use_comfyui
from safetensors.torch import load_file

use_comfyui()
pytest.importorskip("sentencepiece")
from magic141.model_patches.bridge.int8.detect import find_layout
from magic141.model_patches.bridge.int8_ops import is_quantized
from magic141.tests.support.family_files import (
    fp8_scaled,
    quantize_found,
    relative_error,
    write_parts,
    write_weights,
)
from magic141.tests.support.tiny_text_encoders import ENCODERS, shrink_host, states

PLAN = QuantizationPlan()
MODES = {"weight_only": 0.04, "w8a8": 0.04, "int4": 0.6}


@pytest.fixture(autouse=True)
def inference_mode():
    with torch.inference_mode():
        yield


@pytest.mark.parametrize("name", ENCODERS)
def test_states_are_those_of_the_file(name, tmp_path, monkeypatch):
    encoder = ENCODERS[name]
    shrink_host(monkeypatch, encoder)
    source = write_weights(tmp_path / "plain.safetensors", encoder.weights())
    reference = states(encoder.open(source))
    for mode, bar in MODES.items():
        report = quantize_found(source, tmp_path / "int8.safetensors", QuantizationPlan(mode))
        assert report.num_layers > 0
        clip = encoder.open(tmp_path / "int8.safetensors")
        found = [n for n, module in clip.cond_stage_model.named_modules() if is_quantized(module)]
        assert len(found) == report.num_layers
        error = relative_error(states(clip), reference)
        assert 0 < error < bar
        if mode != "int4":
            assert report.num_layers == encoder.num_layers


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_sources(dtype, tmp_path, monkeypatch):
    encoder = ENCODERS["umt5"]
    shrink_host(monkeypatch, encoder)
    source = write_weights(tmp_path / "plain.safetensors", encoder.weights(dtype))
    quantize_found(source, tmp_path / "int8.safetensors", PLAN)
    plain, quantized = (encoder.open(tmp_path / f"{name}.safetensors") for name in ("plain", "int8"))
    assert relative_error(states(quantized), states(plain)) < 0.04
    written = load_file(tmp_path / "int8.safetensors")
    assert written["shared.weight"].dtype == dtype
    assert torch.equal(written["spiece_model"], encoder.weights()["spiece_model"])


def test_fp8_scaled_and_parts(tmp_path, monkeypatch):
    encoder = ENCODERS["umt5"]
    shrink_host(monkeypatch, encoder)
    weights = encoder.weights(torch.bfloat16)
    plain = write_weights(tmp_path / "plain.safetensors", weights)
    layers = find_layout(read_model_header(plain), PLAN).blocks
    fp8 = fp8_scaled(weights, layers)
    write_weights(tmp_path / "fp8.safetensors", fp8)
    quantize_found(write_parts(tmp_path, fp8)[1], tmp_path / "int8.safetensors", PLAN)
    before, after = (encoder.open(tmp_path / f"{name}.safetensors") for name in ("fp8", "int8"))
    assert relative_error(states(after), states(before)) < 0.02


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
@pytest.mark.parametrize("name", ["umt5", "T5"])
def test_fp8_without_a_scale_counts_as_it_is(name, dtype, tmp_path, monkeypatch):
    encoder = ENCODERS[name]
    shrink_host(monkeypatch, encoder)
    fp8 = {k: w.to(dtype) if w.is_floating_point() else w for k, w in encoder.weights().items()}
    widened = {k: w.bfloat16() if w.is_floating_point() else w for k, w in fp8.items()}
    for file, weights in (("fp8", fp8), ("bf16", widened)):
        quantize_found(
            write_weights(tmp_path / f"{file}.safetensors", weights),
            tmp_path / f"{file}_int8.safetensors",
            PLAN,
        )
    made, wanted = (load_file(tmp_path / f"{file}_int8.safetensors") for file in ("fp8", "bf16"))
    assert made.keys() == wanted.keys()
    assert all(torch.equal(made[key], wanted[key]) and made[key].dtype == wanted[key].dtype for key in wanted)
    plain, quantized = (encoder.open(tmp_path / f"{file}.safetensors") for file in ("bf16", "fp8_int8"))
    assert 0 < relative_error(states(quantized), states(plain)) < 0.04


def test_relative_positions_and_embeddings_stay(tmp_path, monkeypatch):
    encoder = ENCODERS["umt5"]
    shrink_host(monkeypatch, encoder)
    source = write_weights(tmp_path / "plain.safetensors", encoder.weights())
    header = read_model_header(source)
    plan = plan_file(header, find_layout(header, PLAN), PLAN)
    assert plan.family == "text encoder T5_XXL"
    assert "encoder.block.*.layer.*.SelfAttention.q.weight: 2 x 64 x 64, float32" in plan.text
    assert not [key for key in plan.layers if "bias" in key or "shared" in key or ".23." in key]


def test_encoders_that_the_host_opens_only_whole_are_refused(tmp_path):
    weights = {f"text_model.encoder.layers.{layer}.mlp.fc1.weight": torch.zeros(96, 64) for layer in range(2)}
    source = write_weights(tmp_path / "clip_l.safetensors", weights)
    with pytest.raises(ValueError, match="is a text encoder CLIP_L, of which ComfyUI opens no int8 file"):
        quantize_found(source, tmp_path / "out.safetensors", PLAN)
    assert not (tmp_path / "out.safetensors").exists()


def test_an_incomplete_encoder_is_refused(tmp_path, monkeypatch):
    encoder = ENCODERS["LLaMA"]
    weights = encoder.weights()
    source = write_weights(tmp_path / "llama.safetensors", weights)
    with pytest.raises(ValueError, match="looks like the text encoder LLAMA3_8, but ComfyUI cannot build"):
        quantize_found(source, tmp_path / "out.safetensors", PLAN)  # of other widths than the host's class

"""Models of other families than the pack's own: file to int8 file to the stock loader, against the file in fp32."""

import json

import pytest
import torch
from magic141.model_patches.dit.shards import read_model_header
from magic141.model_patches.int8.choice import plan_file
from magic141.model_patches.int8.file import PROVENANCE, quantize_file
from magic141.model_patches.int8.quantize import QuantizationPlan
from magic141.tests.support.tiny_lora import apply_lora, lora_for, merged, output_on_route, relative_gain
from magic141.tools.host import use_comfyui
from safetensors import safe_open
from safetensors.torch import load_file, save_file

use_comfyui()
import comfy.sd
from magic141.model_patches.bridge.int8.detect import find_layout
from magic141.model_patches.bridge.int8.model import quantize_model
from magic141.tests.support.family_files import (
    flux_in_diffusers_names,
    fp8_scaled,
    quantize_found,
    relative_error,
    write_parts,
    write_weights,
)
from magic141.tests.support.tiny_families import FAMILIES, FLUX, LARGE_FAMILIES, LTX

PLAN = QuantizationPlan()
MODES = {"weight_only": 0.03, "w8a8": 0.03, "int4": 0.3}
SMALL = [name for name in FAMILIES if name != "Kandinsky 5"]
LORA_FAMILIES = ("HunyuanVideo I2V", "Flux 1", "Wan 2.2 I2V")


@pytest.fixture(autouse=True)
def inference_mode():
    with torch.inference_mode():
        yield


def stock_load(path):
    return comfy.sd.load_diffusion_model(str(path))


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_runs_from_an_int8_file_in_the_stock_loader(name, tmp_path):
    family = FAMILIES[name]
    source = write_weights(tmp_path / "plain.safetensors", family.weights(), family.metadata)
    plain = stock_load(source)
    assert type(plain.model.model_config) is family.kind
    reference = family.output(plain)
    for mode, bar in MODES.items():
        target = tmp_path / f"{mode}.safetensors"
        report = quantize_found(source, target, QuantizationPlan(mode))
        assert report.num_layers > 0
        quantized = stock_load(target)
        assert type(quantized.model.model_config) is family.kind
        assert quantized.model.model_config.unet_config == plain.model.model_config.unet_config
        assert 0 < relative_error(family.output(quantized), reference) < bar


def test_one_whose_sizes_the_host_fixes(tmp_path):
    family = LARGE_FAMILIES["Z-Image"]
    weights = family.weights(dtype=torch.bfloat16)
    plain = stock_load(write_weights(tmp_path / "plain.safetensors", weights))
    assert type(plain.model.model_config) is family.kind
    report = quantize_found(tmp_path / "plain.safetensors", tmp_path / "int8.safetensors", PLAN)
    assert report.num_layers > 0
    quantized = stock_load(tmp_path / "int8.safetensors")
    assert 0 < relative_error(family.output(quantized), family.output(plain)) < 0.03


@pytest.mark.parametrize("name", SMALL)
def test_a_model_quantizes_the_same_layers_as_its_file(name, tmp_path):
    family = FAMILIES[name]
    source = write_weights(tmp_path / "plain.safetensors", family.weights(), family.metadata)
    plain = stock_load(source)
    quantized = quantize_model(plain, PLAN)
    assert relative_error(family.output(quantized), family.output(plain)) < 0.02
    names = {key for key in quantized.model.diffusion_model.state_dict() if key.endswith(".comfy_quant")}
    quantize_found(source, tmp_path / "int8.safetensors", PLAN)
    assert names == {key for key in load_file(tmp_path / "int8.safetensors") if key.endswith(".comfy_quant")}


@pytest.mark.parametrize("name", LORA_FAMILIES)
@pytest.mark.parametrize("route", ["bypass", "lowvram", "full"])
def test_a_weak_lora_keeps_its_direction(name, route):
    family = FAMILIES[name]
    plain = comfy.sd.load_diffusion_model_state_dict(family.weights())
    lora = lora_for(plain, 0.01)
    changed = comfy.sd.load_diffusion_model_state_dict(merged(plain, lora))
    reference = family.output(changed) - family.output(plain)
    quantized = quantize_model(plain, PLAN)
    with_lora = apply_lora(quantized, lora, route)
    effect = output_on_route(with_lora, route, family.output) - output_on_route(
        quantized, route, family.output
    )
    gain, cosine = relative_gain(effect, reference)
    assert cosine > 0.9
    assert 0.9 < gain < 1.1


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_fp8_scaled_is_multiplied_out(prefix, tmp_path):
    family = FAMILIES["Wan 2.2 I2V"]
    weights = family.weights()
    plain = write_weights(tmp_path / "plain.safetensors", weights)
    layers = find_layout(read_model_header(plain), PLAN).blocks | {"text_embedding.0.weight"}
    scaled = {prefix + key: tensor for key, tensor in fp8_scaled(weights, layers).items()}
    fp8 = write_weights(tmp_path / "fp8.safetensors", scaled)
    quantize_found(fp8, tmp_path / "int8.safetensors", PLAN)
    result = family.output(stock_load(tmp_path / "int8.safetensors"))
    assert relative_error(result, family.output(stock_load(fp8))) < 0.02
    written = load_file(tmp_path / "int8.safetensors")
    assert not [key for key in written if "scale_weight" in key or "scaled_fp8" in key]
    assert written["text_embedding.0.weight"].dtype == torch.bfloat16


def test_a_model_in_parts_is_quantized_as_one(tmp_path):
    weights = FAMILIES["Flux 1"].weights(dtype=torch.bfloat16)
    quantize_found(
        write_weights(tmp_path / "plain.safetensors", weights), tmp_path / "whole.safetensors", PLAN
    )
    parts = write_parts(tmp_path, weights)
    quantize_found(parts[1], tmp_path / "int8.safetensors", PLAN)
    joined, whole = load_file(tmp_path / "int8.safetensors"), load_file(tmp_path / "whole.safetensors")
    assert joined.keys() == whole.keys()
    assert all(torch.equal(joined[key], whole[key]) for key in whole)
    with safe_open(tmp_path / "int8.safetensors", framework="pt") as file:
        source = json.loads(file.metadata()[PROVENANCE])["source"]
    assert [part["name"] for part in source["parts"]] == [part.name for part in parts]


def test_diffusers_names_become_the_hosts_and_fused_weights_are_joined(tmp_path):
    weights = FAMILIES["Flux 1"].weights()
    write_parts(tmp_path, flux_in_diffusers_names(weights, FLUX))
    first = tmp_path / "diffusion_pytorch_model-00001-of-00003.safetensors"
    quantize_found(first, tmp_path / "int8.safetensors", PLAN)
    quantize_found(
        write_weights(tmp_path / "plain.safetensors", weights), tmp_path / "whole.safetensors", PLAN
    )
    joined, whole = load_file(tmp_path / "int8.safetensors"), load_file(tmp_path / "whole.safetensors")
    assert joined.keys() == whole.keys()
    assert all(torch.equal(joined[key], whole[key]) for key in whole)


def test_what_the_host_reads_in_the_header_is_kept(tmp_path):
    config = json.dumps({"transformer": {"num_layers": LTX["num_layers"]}})
    save_file(FAMILIES["LTX-Video"].weights(), tmp_path / "ltx.safetensors", metadata={"config": config})
    quantize_found(tmp_path / "ltx.safetensors", tmp_path / "int8.safetensors", PLAN)
    with safe_open(tmp_path / "int8.safetensors", framework="pt") as file:
        assert file.metadata()["config"] == config


def test_a_plan_lists_layers_and_bytes_and_reads_no_weight(tmp_path):
    source = write_weights(tmp_path / "wan.safetensors", FAMILIES["Wan 2.1"].weights(dtype=torch.bfloat16))
    header = read_model_header(source)
    quantize_found(source, tmp_path / "int8.safetensors", PLAN)
    source.unlink()
    plan = plan_file(header, find_layout(header, PLAN), PLAN)
    assert len(plan.layers) == 20
    assert "blocks.*.self_attn.q.weight: 2 x 128 x 128, bfloat16" in plan.text
    header_bytes = 20_000
    assert 0 <= (tmp_path / "int8.safetensors").stat().st_size - plan.bytes_after < header_bytes


def test_quanto_keys_are_for_hunyuan_video_alone(tmp_path):
    source = write_weights(tmp_path / "wan.safetensors", FAMILIES["Wan 2.1"].weights())
    holds = find_layout(read_model_header(source), PLAN)
    with pytest.raises(ValueError, match=r"WAN21_T2V; quanto's keys exist for HunyuanVideo only"):
        quantize_file(source, tmp_path / "out.safetensors", PLAN, contents=holds, layout="quanto_diffusers")
    assert not (tmp_path / "out.safetensors").exists()


def lora(weights):
    return {"diffusion_model.blocks.0.ffn.0.lora_A.weight": torch.zeros(4, 128)}


def vae(_):
    return {
        "decoder.conv_in.weight": torch.zeros(8, 4, 3, 3),
        "encoder.conv_in.weight": torch.zeros(8, 3, 3, 3),
    }


def one_layer_fp8(weights):
    return weights | {"blocks.0.ffn.0.weight": weights["blocks.0.ffn.0.weight"].to(torch.float8_e4m3fn)}


def gptq(weights):
    return weights | {"blocks.0.ffn.0.qweight": torch.zeros(8, 8, dtype=torch.int32)}


def nvfp4(weights):
    return weights | {"blocks.0.ffn.0.weight_scale_2": torch.zeros(())}


def awq(weights):
    return weights | {"blocks.0.ffn.0.qzeros": torch.zeros(8, 8, dtype=torch.int32)}


def bitsandbytes(weights):
    return weights | {"blocks.0.ffn.0.weight.absmax": torch.zeros(8)}


def comfyui(weights):
    return weights | {"blocks.0.ffn.0.comfy_quant": torch.zeros(8, dtype=torch.uint8)}


def four_bits(weights):
    return weights | {"blocks.0.ffn.0.weight": torch.zeros(192, 64, dtype=torch.uint8)}


def kohya_lora(_):
    return {"lora_unet_blocks_0_ffn_0.lora_down.weight": torch.zeros(4, 128)}


def scale_of_zero(weights):
    layers = frozenset(key for key in weights if key.startswith("blocks.0.ffn.") and key.endswith("weight"))
    return fp8_scaled(weights, layers) | {"blocks.0.ffn.0.scale_weight": torch.zeros(())}


BAD_FILES = {
    lora: "is a LoRA",
    vae: "is a VAE",
    one_layer_fp8: "to fp8 without scales.*blocks.0.ffn.0.weight",
    gptq: "to GPTQ",
    nvfp4: "to nvfp4",
    awq: "to GPTQ or AWQ",
    bitsandbytes: "to bitsandbytes",
    comfyui: "to ComfyUI's quantized format",
    four_bits: "to 4 bits",
    kohya_lora: "is a LoRA",
    scale_of_zero: "is not a scale of blocks.0.ffn.0.weight",
}


@pytest.mark.parametrize("make", BAD_FILES, ids=lambda make: make.__name__)
def test_what_cannot_be_quantized_is_named(make, tmp_path):
    source = write_weights(tmp_path / "bad.safetensors", make(FAMILIES["Wan 2.1"].weights()))
    with pytest.raises(ValueError, match=BAD_FILES[make]):
        quantize_found(source, tmp_path / "out.safetensors", PLAN)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.safetensors"]


def test_mixed_precision_stays_mixed_where_nothing_is_quantized(tmp_path):
    family = FAMILIES["Wan 2.1"]
    half = family.weights(dtype=torch.bfloat16)
    mixed = half | {key: w.float() for key, w in half.items() if w.ndim == 1 or "blocks.1.ffn" in key}
    source = write_weights(tmp_path / "mixed.safetensors", mixed)
    quantize_found(source, tmp_path / "int8.safetensors", PLAN)
    written = load_file(tmp_path / "int8.safetensors")
    kept = [key for key in mixed if written[key].dtype != torch.int8]
    assert all(torch.equal(written[key], mixed[key]) for key in kept)
    assert written["blocks.1.ffn.0.weight"].dtype == torch.int8
    reference = family.output(stock_load(source))
    assert relative_error(family.output(stock_load(tmp_path / "int8.safetensors")), reference) < 0.03


def test_a_missing_part_is_named(tmp_path):
    parts = write_parts(tmp_path, FAMILIES["Wan 2.1"].weights())
    parts[2].unlink()
    with pytest.raises(FileNotFoundError, match=f"3 parts. Missing: {parts[2].name}"):
        quantize_found(parts[0], tmp_path / "out.safetensors", PLAN)


def test_gguf_is_refused_with_the_reason(tmp_path):
    (tmp_path / "wan.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(ValueError, match="GGUF file"):
        quantize_found(tmp_path / "wan.gguf", tmp_path / "out.safetensors", PLAN)

"""Quantized files that do not hold together are refused, key by key."""

import pytest
import torch
from magic141.model_patches.int8.check import check_layers
from magic141.model_patches.int8.file import quantize_file
from magic141.model_patches.int8.quantize import QuantizationPlan, encode_config
from magic141.tests.support.tiny_dit import tiny_dit
from safetensors.torch import load_file, save_file

NAME = "single_blocks.0.linear1"
SCALE, CONFIG, WEIGHT = f"{NAME}.weight_scale", f"{NAME}.comfy_quant", f"{NAME}.weight"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("int8")
    save_file(tiny_dit(), folder / "dit.safetensors")
    quantize_file(folder / "dit.safetensors", folder / "int8.safetensors", QuantizationPlan())
    return load_file(folder / "int8.safetensors")


def without(weights, key):
    return {k: v for k, v in weights.items() if k != key}


CHANGES = {
    "zero": (lambda w: w | {SCALE: torch.zeros_like(w[SCALE])}, r"weight_scale holds 0\.0"),
    "negative": (lambda w: w | {SCALE: -w[SCALE]}, "weight_scale holds -"),
    "nan": (lambda w: w | {SCALE: w[SCALE] * torch.nan}, "weight_scale holds nan"),
    "missing": (lambda w: without(w, SCALE), r"weight_scale is missing"),
    "shape": (lambda w: w | {SCALE: w[SCALE][:-1]}, r"has shape \(895, 1\); .* 896 rows"),
    "integer scale": (lambda w: w | {SCALE: w[SCALE].to(torch.int32)}, "int32; float32"),
    "no config": (lambda w: without(w, CONFIG), "comfy_quant is missing"),
    "no json": (lambda w: w | {CONFIG: torch.zeros(9, dtype=torch.uint8)}, "not the description"),
    "format": (lambda w: w | {CONFIG: encode_config({"format": "float8_e4m3fn"})}, "format is 'float8"),
    "rotation": (
        lambda w: (
            w
            | {CONFIG: encode_config({"format": "int8_tensorwise", "convrot": True, "convrot_groupsize": 77})}
        ),
        "groups of 77",
    ),
    "complex": (lambda w: w | {WEIGHT: torch.zeros(896, 128, dtype=torch.complex64)}, "complex64"),
    "relabeled": (lambda w: w | {WEIGHT: w[WEIGHT].to(torch.int16)}, "int16; floating point"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_does_not_hold_together_is_refused_by_key(weights, change):
    make, said = CHANGES[change]
    check_layers(weights, "good.safetensors")
    with pytest.raises(ValueError, match=rf"bad\.safetensors is damaged: {NAME}.*{said}|{said}"):
        check_layers(make(weights), "bad.safetensors")


@pytest.mark.parametrize("change", ["zero", "negative", "nan", "shape"])
def test_they_are_not_translated_either(weights, change, tmp_path):
    make, said = CHANGES[change]
    save_file({k: v.contiguous() for k, v in make(weights).items()}, tmp_path / "bad.safetensors")
    with pytest.raises(ValueError, match=said):
        quantize_file(
            tmp_path / "bad.safetensors",
            tmp_path / "out.safetensors",
            QuantizationPlan(),
            layout="quanto_authors",
        )
    assert not (tmp_path / "out.safetensors").exists()


def test_one_part_of_a_model_is_called_so(tmp_path):
    save_file(tiny_dit(), tmp_path / "dit-00001-of-00003.safetensors")
    with pytest.raises(FileNotFoundError, match=r"3 parts. Missing: dit-00002-of-00003"):
        quantize_file(
            tmp_path / "dit-00001-of-00003.safetensors", tmp_path / "out.safetensors", QuantizationPlan()
        )

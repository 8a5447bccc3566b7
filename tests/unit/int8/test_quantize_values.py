"""Integers, scales and descriptions of small weights, whose values follow by hand."""

import itertools
import json

import pytest
import torch
from magic141.model_patches.int8.quantize import (
    BLOCK_WEIGHT,
    INT4_CLIPS,
    LEAST_SCALE,
    QuantizationPlan,
    decode_config,
    dequantize,
    encode_config,
    hadamard,
    per_row,
    per_tensor,
    quantize_layer,
    quantize_rows,
    rotate,
)

WEIGHT = torch.tensor([[127.0, -127.0, 0.5, 1.5], [0.0, 12.7, -12.7, 0.16]])


def test_every_row_has_its_own_scale():
    integers, scale = per_row(WEIGHT)
    assert scale.tolist() == [[1.0], [pytest.approx(0.1)]]
    assert integers.tolist() == [[127, -127, 0, 2], [0, 127, -127, 2]]


def test_one_scale_for_the_whole_tensor():
    integers, scale = per_tensor(WEIGHT, torch.tensor(127.0))
    assert scale.tolist() == 1.0
    assert integers.tolist() == [[127, -127, 0, 2], [0, 13, -13, 0]]
    wide, _ = per_tensor(torch.tensor([[-200.0, 200.0]]), torch.tensor(127.0))
    assert wide.tolist() == [[-128, 127]], "clamped, not wrapped around"


def test_zeros_have_the_least_scale():
    assert per_row(torch.zeros(1, 4))[1].tolist() == [[pytest.approx(LEAST_SCALE)]]
    assert per_tensor(torch.zeros(1, 4), torch.tensor(0.0))[1].tolist() == pytest.approx(LEAST_SCALE)


def test_some_rows_are_quantized_by_the_whole_tensors_largest():
    plan = QuantizationPlan(granularity="tensor")
    integers, scale = quantize_rows(WEIGHT[1:], plan, absmax=torch.tensor(127.0))
    assert (integers.tolist(), scale.tolist()) == ([[0, 13, -13, 0]], 1.0)
    assert quantize_rows(WEIGHT[1:], plan)[1].tolist() == pytest.approx(0.1)


def test_what_the_host_reads_of_a_layer():
    assert QuantizationPlan() == QuantizationPlan("weight_only", "row", False)
    four_bits = {
        "format": "convrot_w4a4",
        "convrot_groupsize": 64,
        "linear_dtype": "int8",
        "full_precision_matrix_mult": True,
    }
    assert QuantizationPlan("int4").layer_config(192) == four_bits
    whole = {"format": "int8_tensorwise", "full_precision_matrix_mult": True}
    assert QuantizationPlan().layer_config(192) == whole
    rotated = {"format": "int8_tensorwise", "convrot": True, "convrot_groupsize": 16}
    assert QuantizationPlan("w8a8").layer_config(48) == rotated
    assert QuantizationPlan("w8a8").layer_config(20) == {"format": "int8_tensorwise"}
    stored = encode_config(rotated)
    assert stored.dtype == torch.uint8
    assert json.loads(bytes(stored.tolist())) == decode_config(stored) == rotated


@pytest.mark.parametrize("mode", ["w8a8", "int4"])
def test_one_scale_a_tensor_is_for_weight_only(mode):
    with pytest.raises(ValueError, match=f"mode is '{mode}'.*Choose per row"):
        QuantizationPlan(mode, "tensor")
    QuantizationPlan(mode, "row")
    QuantizationPlan("weight_only", "tensor")


@pytest.mark.parametrize(
    ("key", "is_one"),
    [
        ("double_blocks.0.img_mod.lin.weight", True),
        ("model.diffusion_model.single_blocks.12.linear1.weight", True),
        ("single_blocks.0.linear1.bias", False),
        ("xdouble_blocks.0.a.weight", False),
        ("final_layer.linear.weight", False),
        ("double_blocks.x.a.weight", False),
    ],
)
def test_weights_of_blocks_are_told_by_their_names(key, is_one):
    assert bool(BLOCK_WEIGHT.match(key)) is is_one


def test_rotations_of_sixteen_are_those_of_four_by_those_of_four():
    four = torch.tensor([[1.0, 1, 1, -1], [1, 1, -1, 1], [1, -1, 1, 1], [-1, 1, 1, 1]])
    assert torch.equal(hadamard(4), four / 2)
    assert torch.equal(hadamard(16), torch.kron(four, four) / 4)
    weight = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    wanted = torch.cat([part @ hadamard(16) for part in weight.split(16, dim=1)], dim=1)
    torch.testing.assert_close(rotate(weight, 16), wanted)


def test_four_bits_hold_even_columns_low_and_take_the_clip_of_the_least_error():
    weight = torch.randn(5, 64, generator=torch.Generator().manual_seed(1)) ** 3
    layer = quantize_layer(weight, QuantizationPlan("int4"), name="w")
    assert (layer["weight"].shape, layer["weight"].dtype, layer["weight_scale"].shape) == (
        (5, 32),
        torch.int8,
        (5,),
    )
    for row, packed, scale in zip(rotate(weight, 64), layer["weight"], layer["weight_scale"], strict=True):
        tried = [float(row.abs().max()) / 7 * clip for clip in INT4_CLIPS]
        errors = [float((torch.round(row / s).clamp(-7, 7) * s - row).square().sum()) for s in tried]
        assert float(scale) == pytest.approx(tried[errors.index(min(errors))], rel=1e-5)
        wanted = torch.round(row / scale).clamp(-7, 7).int().tolist()
        nibbles = [n - 16 if n > 7 else n for byte in packed.tolist() for n in (byte & 15, (byte >> 4) & 15)]
        assert nibbles == wanted
    assert (
        len(
            {
                round(float(s / w), 3)
                for s, w in zip(layer["weight_scale"], rotate(weight, 64).abs().amax(1) / 7, strict=True)
            }
        )
        > 1
    )


def test_what_was_quantized_is_the_integers_times_their_scales():
    for plan, (rows, columns) in itertools.product(
        (QuantizationPlan(), QuantizationPlan(granularity="tensor")), [(3, 20), (1, 64)]
    ):
        weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(2))
        layer = quantize_layer(weight, plan, name="w")
        torch.testing.assert_close(dequantize(layer), layer["weight"] * layer["weight_scale"])
        assert float((dequantize(layer) - weight).abs().max()) <= float(layer["weight_scale"].max()) / 1.99

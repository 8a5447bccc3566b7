"""Eq. 10 and its relatives on plain tensors."""

import math

import pytest
import torch
from magic141.model_patches.int8 import quantize as int8
from magic141.model_patches.int8.quantize import QuantizationPlan, dequantize, quantize_layer


def weight(rows=48, columns=256, dtype=torch.float32):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(0)).to(dtype)


def error(plan, values):
    return float((dequantize(quantize_layer(values, plan, name="w")) - values).norm() / values.norm())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_eq_10_per_row(dtype):
    values = weight(dtype=dtype)
    layer = quantize_layer(values, QuantizationPlan(), name="w")
    largest = values.float().abs().amax(dim=1, keepdim=True)
    exact = values.double() * 127 / largest
    assert layer["weight"].dtype == torch.int8
    assert float((layer["weight"] - exact).abs().max()) < 0.50001
    torch.testing.assert_close(layer["weight_scale"], largest / 127, rtol=0, atol=0)


def test_eq_10_per_tensor():
    layer = quantize_layer(weight(), QuantizationPlan(granularity="tensor"), name="w")
    assert layer["weight_scale"].shape == ()
    expected = torch.round(weight().double() * 127 / weight().abs().max())
    assert int((layer["weight"] - expected).abs().max()) == 0


def test_quanto_makes_the_same_integers():
    from optimum.quanto import AbsmaxOptimizer, qint8

    layer = quantize_layer(weight(), QuantizationPlan(), name="w")
    scale = AbsmaxOptimizer()(weight(), qint8, axis=0)
    assert torch.equal(layer["weight_scale"], scale)
    assert torch.equal(layer["weight"], torch.ops.quanto.quantize_symmetric(weight(), torch.int8, 0, scale))


@pytest.mark.parametrize(
    ("plan", "bound"),
    [
        (QuantizationPlan(), 0.008),
        (QuantizationPlan(granularity="tensor"), 0.012),
        (QuantizationPlan("w8a8"), 0.008),
        (QuantizationPlan("int4"), 0.12),
    ],
    ids=str,
)
def test_error_of_a_gaussian_weight(plan, bound):
    assert error(plan, weight()) < bound


def test_rotation_is_orthonormal_and_its_own_inverse():
    for size in int8.ROTATION_GROUPS:
        matrix = int8.hadamard(size)
        torch.testing.assert_close(matrix @ matrix, torch.eye(size), rtol=0, atol=1e-5)
        assert math.isclose(float(matrix.abs().max()), size**-0.5, rel_tol=1e-6)


def test_rotation_group_divides_the_width():
    assert [int8.rotation_group(n) for n in (3072, 15360, 192, 48, 20)] == [256, 256, 64, 16, 0]


def test_width_without_rotation_falls_to_plain_rows():
    values = weight(columns=20)
    layer = quantize_layer(values, QuantizationPlan("w8a8"), name="w")
    assert int8.decode_config(layer["comfy_quant"]) == {"format": "int8_tensorwise"}


def test_rows_of_zeros_stay_zero():
    values = weight()
    values[3] = 0
    for plan in (QuantizationPlan(), QuantizationPlan("w8a8"), QuantizationPlan("int4")):
        restored = dequantize(quantize_layer(values, plan, name="w"))
        assert bool(torch.isfinite(restored).all())
        assert float(restored[3].abs().max()) == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nan_and_inf_are_refused_by_name(bad):
    values = weight()
    values[5, 7] = bad
    with pytest.raises(ValueError, match=r"double_blocks\.0\.img_mod\.lin.*NaN or Inf"):
        quantize_layer(values, QuantizationPlan(), name="double_blocks.0.img_mod.lin")


def test_four_bits_want_widths_of_whole_groups():
    assert QuantizationPlan().can_quantize((8, 40))
    assert QuantizationPlan("int4").can_quantize((8, 128))
    assert not QuantizationPlan("int4").can_quantize((8, 40))
    assert not QuantizationPlan().can_quantize((64, 33, 1, 2, 2))


def test_combinations_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match="per row"):
        QuantizationPlan("w8a8", granularity="tensor")

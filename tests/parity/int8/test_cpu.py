"""The processor's own ways through int8 weights, against the dequantized weights."""

import pytest
import torch
from magic141.model_patches.int8.quantize import QuantizationPlan, dequantize, quantize_layer
from magic141.tools.host import use_comfyui

use_comfyui()
from magic141.model_patches.bridge.int8_ops import FEW_TOKENS, LARGE, int8_operations, linear_on_cpu

WIDTH, ROWS = 320, 1500


def made(plan, dtype=torch.bfloat16, *, rows=ROWS):
    generator = torch.Generator().manual_seed(0)
    layer = quantize_layer(torch.randn(rows, WIDTH, generator=generator), plan, name="w")
    bias = torch.randn(rows, generator=generator).to(dtype)
    linear = int8_operations(dtype).Linear(WIDTH, rows, device="cpu")
    linear.load_state_dict(layer | {"bias": bias})
    return linear, dequantize(layer).double(), bias.double()


@pytest.mark.parametrize("granularity", ["row", "tensor"])
@pytest.mark.parametrize("shape", [(WIDTH,), (1, 1, WIDTH), (2, 7, WIDTH), (2, FEW_TOKENS, WIDTH)])
def test_exact_within_the_rounding_of_bf16(shape, granularity):
    linear, weight, bias = made(QuantizationPlan(granularity=granularity))
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(torch.bfloat16)
    with torch.inference_mode():
        output = linear(x)
        assert torch.equal(output, linear_on_cpu(linear, x))
    exact = x.double() @ weight.T + bias
    assert output.dtype == torch.bfloat16
    assert output.shape == exact.shape
    assert float(((output - exact).abs() / (exact.abs() + weight.abs().max())).max()) < 2**-7


@pytest.mark.parametrize("granularity", ["row", "tensor"])
def test_exact_in_float32_with_a_large_weight(granularity):
    linear, weight, bias = made(
        QuantizationPlan(granularity=granularity), torch.float32, rows=LARGE // WIDTH + 1
    )
    x = torch.randn(2, 7, WIDTH, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        output = linear(x)
        assert torch.equal(output, linear_on_cpu(linear, x))
    exact = x.double() @ weight.T + bias
    assert output.dtype == torch.float32
    assert float((output - exact).norm() / exact.norm()) < 1e-6


@pytest.mark.parametrize("plan", [QuantizationPlan("w8a8"), QuantizationPlan("int4")])
def test_rotated_and_4_bit_weights_go_the_hosts_way(plan):
    linear, _, _ = made(plan)
    assert linear_on_cpu(linear, torch.zeros(1, WIDTH, dtype=torch.bfloat16)) is None


def test_small_float32_and_patched_weights_go_the_hosts_way():
    linear, _, _ = made(QuantizationPlan())
    assert linear_on_cpu(linear, torch.zeros(1, WIDTH)) is None
    linear.weight_function.append(lambda weight: weight)
    assert linear_on_cpu(linear, torch.zeros(1, WIDTH, dtype=torch.bfloat16)) is None

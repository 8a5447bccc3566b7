"""The way of bf16 inputs through int8 weights on a processor, against the dequantized weights."""

import pytest
import torch
from magic141.model_patches.int8.quantize import QuantizationPlan, dequantize, quantize_layer
from magic141.tools.host import use_comfyui

use_comfyui()
from magic141.model_patches.bridge.int8_ops import FEW_TOKENS, int8_operations, linear_on_cpu

WIDTH, ROWS = 320, 1500


def made(plan, dtype=torch.bfloat16):
    generator = torch.Generator().manual_seed(0)
    layer = quantize_layer(torch.randn(ROWS, WIDTH, generator=generator), plan, name="w")
    bias = torch.randn(ROWS, generator=generator).to(dtype)
    linear = int8_operations(dtype).Linear(WIDTH, ROWS, device="cpu")
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


@pytest.mark.parametrize("plan", [QuantizationPlan("w8a8"), QuantizationPlan("int4")])
def test_rotated_and_4_bit_weights_go_the_hosts_way(plan):
    linear, _, _ = made(plan)
    assert linear_on_cpu(linear, torch.zeros(1, WIDTH, dtype=torch.bfloat16)) is None


def test_other_types_and_patched_weights_go_the_hosts_way():
    linear, _, _ = made(QuantizationPlan())
    assert linear_on_cpu(linear, torch.zeros(1, WIDTH)) is None
    linear.weight_function.append(lambda weight: weight)
    assert linear_on_cpu(linear, torch.zeros(1, WIDTH, dtype=torch.bfloat16)) is None

"""Weight-only int8 Linears on a processor, without making the whole weight in floating point first."""

import torch
from comfy.quant_ops import QuantizedTensor
from torch import Tensor, nn

#: Up to so many tokens torch's own kernel, which reads the integers, is faster than a matrix product in bf16.
FEW_TOKENS = 32

#: On a processor without bf16 instructions it is faster for any number of them.
HAS_BF16 = any(
    getattr(torch.cpu, "get_capabilities", dict)().get(name) for name in ("avx512_bf16", "amx_bf16", "bf16")
)

#: Rows of the weight that become bf16 at a time; with the widths of a DiT they stay in the processor's cache.
ROWS = 1024


def linear_on_cpu(module: nn.Module, input: Tensor) -> Tensor | None:
    """Return the Linear's output where this file has a faster way to it, else None.

    It has one for bf16 inputs and plain int8 weights (not rotated) that lie in the processor's memory and are not
    to be patched. The scales multiply the product: the integers are exact in bf16.
    """
    weight = module.weight
    if input.dtype != torch.bfloat16 or input.device.type != "cpu" or not _is_plain(module, weight):
        return None
    integers, scale = weight._qdata, weight._params.scale.reshape(-1)
    product = _multiply(input.reshape(-1, input.shape[-1]), integers)
    product = product.float().mul_(scale)
    if module.bias is not None:
        product += module.bias
    return product.to(input.dtype).reshape(*input.shape[:-1], len(integers))


def _is_plain(module: nn.Module, weight: Tensor) -> bool:
    if not isinstance(weight, QuantizedTensor) or getattr(module, "quant_format", None) != "int8_tensorwise":
        return False
    params = weight._params
    moved = hasattr(module, "_v") or module.weight_function or module.bias_function
    return (
        not moved
        and weight._qdata.device.type == "cpu"
        and not params.convrot
        and not getattr(params, "transposed", False)
    )


def _multiply(tokens: Tensor, integers: Tensor) -> Tensor:
    """Return tokens (N, in) times integers (out, in), in bf16."""
    if len(tokens) <= FEW_TOKENS or not HAS_BF16:
        return torch._weight_int8pack_mm(tokens, integers, tokens.new_ones(len(integers)))
    parts = [nn.functional.linear(tokens, rows.to(tokens.dtype)) for rows in integers.split(ROWS)]
    return torch.cat(parts, dim=-1)

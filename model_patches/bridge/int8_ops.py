"""The host's mixed-precision Linear, made to be weight-only where the layer says so, with exact LoRA.

The host differs in two ways: ``full_precision_matrix_mult`` still quantizes the activations when layer and input dtype
agree, and a LoRA on an int8 weight is merged and rounded again, which swallows a weak LoRA.
"""

from collections.abc import Callable
from typing import Any

import comfy.model_patcher
import comfy.ops
import torch
from comfy.patcher_extension import CallbacksMP
from comfy.quant_ops import QuantizedTensor
from torch import Tensor, nn

LORA_KEY = "magic141_int8_lora"

#: Up to this many tokens torch's own kernel, which reads the integers, is faster than a matrix product in bf16.
FEW_TOKENS = 32

#: On a processor without bf16 instructions that kernel is faster for any number of tokens.
HAS_BF16 = any(
    getattr(torch.cpu, "get_capabilities", dict)().get(name) for name in ("avx512_bf16", "amx_bf16", "bf16")
)

#: How many rows of the weight are converted at a time: at a DiT's widths in bf16 they fit into the processor's cache.
ROWS = 1024

#: From this many values on, weights become float32 in parts: at once takes eight times the integers' memory.
LARGE = 1 << 24


class QuantizedLinear:
    """Mixed into the host's quantized Linear.

    ``lora_at_use``: applies LoRA to the dequantized weight at every use, instead of merging it into the integers once.
    """

    _full_precision_mm: bool  # of the host's class
    lora_at_use: Callable[[Tensor], Tensor] | None = None

    def forward_comfy_cast_weights(
        self, input: Tensor, compute_dtype=None, want_requant=False, weight_only_quant=False
    ) -> Tensor:
        lora = self.lora_at_use if getattr(self, "comfy_patched_weights", True) else None
        if lora is None and not self._full_precision_mm:
            host: Any = super()
            return host.forward_comfy_cast_weights(input, compute_dtype, want_requant, weight_only_quant)
        if lora is None and (output := linear_on_cpu(self, input)) is not None:
            return output
        weight, bias, stream = comfy.ops.cast_bias_weight(
            self, input, offloadable=True, compute_dtype=compute_dtype
        )
        if isinstance(weight, QuantizedTensor):
            weight = weight.dequantize()
        output = nn.functional.linear(input, weight if lora is None else lora(weight), bias)
        comfy.ops.uncast_bias_weight(self, weight, bias, stream)
        return output

    def set_weight(
        self, weight: Tensor, inplace_update=False, seed=None, return_weight=False, **options
    ) -> Tensor | None:
        """Leave the integers as they are when a load would merge patches into them: those are applied at use.

        Merging would also hold the weights of all layers in memory twice until the end of the load.
        """
        if return_weight or inplace_update:
            host: Any = super()
            return host.set_weight(weight, inplace_update, seed, return_weight, **options)
        return None


def int8_operations(compute_dtype: torch.dtype):
    """Return host operations (``custom_operations``) whose Linear holds quantized weights natively."""
    base = comfy.ops.mixed_precision_ops({"mixed_ops": True}, compute_dtype)

    class Int8Operations(base):
        class Linear(QuantizedLinear, base.Linear):
            pass

    return Int8Operations


def adopt(patcher: comfy.model_patcher.ModelPatcher) -> comfy.model_patcher.ModelPatcher:
    """Give a quantized model that the host loaded our Linear and exact LoRA, in place.

    For loaders, which own the model; does nothing to a model without quantized weights.
    """
    twins: dict[type, type] = {}
    for module in patcher.model.modules():
        kind = type(module)
        is_adopted = isinstance(module, QuantizedLinear)
        if is_quantized(module) and not is_adopted and hasattr(module, "layout_type"):
            twins.setdefault(kind, type(kind.__name__, (QuantizedLinear, kind), {}))
            module.__class__ = twins[kind]
    if twins:
        keep_lora_exact(patcher)
    return patcher


def is_quantized(module: nn.Module) -> bool:
    """Return whether a module's weight is one of the host's quantized tensors."""
    return isinstance(getattr(module, "weight", None), QuantizedTensor)


def keep_lora_exact(patcher: comfy.model_patcher.ModelPatcher) -> None:
    """Let every load of this patcher and its clones apply LoRA at use instead of merging it into the integers."""
    patcher.remove_callbacks_with_key(CallbacksMP.ON_LOAD, LORA_KEY)
    patcher.add_callback_with_key(CallbacksMP.ON_LOAD, LORA_KEY, _move_lora_to_use)


def _move_lora_to_use(patcher: comfy.model_patcher.ModelPatcher, device: torch.device, *_) -> None:
    """After a load: undo merging, and keep the patches beside the weights instead."""
    for name, module in patcher.model.named_modules():
        if isinstance(module, QuantizedLinear):
            module.lora_at_use = _take_patch(patcher, f"{name}.weight", module, device)


def _take_patch(patcher, key: str, module: Any, device: torch.device):
    if key not in patcher.patches:
        return None
    # dynamic memory: it would merge the patch when the weight arrives
    if getattr(module, "weight_lowvram_function", None) is not None:
        module.weight_lowvram_function = None
        return comfy.model_patcher.LowVramPatch(key, patcher.patches)
    if key not in patcher.backup:  # left off the device: the host itself applies it at use
        return None
    weight = patcher.backup[key].weight.to(device)
    module.weight = nn.Parameter(weight, requires_grad=False)
    return comfy.model_patcher.LowVramPatch(key, patcher.patches)


def linear_on_cpu(module: Any, input: Tensor) -> Tensor | None:
    """Return the Linear's output if this file can compute it faster than the host, else None.

    It can for int8 weights on the CPU that are neither rotated nor to be patched, with inputs in bf16, or in float32 if
    the weight is large. The scales are applied to the product; the integers are exact in both types.
    """
    weight = module.weight
    is_supported = input.dtype == torch.bfloat16 or (input.dtype == torch.float32 and weight.numel() >= LARGE)
    if not is_supported or input.device.type != "cpu" or not _is_plain(module, weight):
        return None
    integers, scale = weight._qdata, weight._params.scale.reshape(-1)
    product = _multiply(input.reshape(-1, input.shape[-1]), integers)
    product = product.float().mul_(scale)
    if module.bias is not None:
        product += module.bias
    return product.to(input.dtype).reshape(*input.shape[:-1], len(integers))


def _is_plain(module: Any, weight: Any) -> bool:
    if not isinstance(weight, QuantizedTensor) or getattr(module, "quant_format", None) != "int8_tensorwise":
        return False
    params = weight._params
    is_patched_at_use = hasattr(module, "_v") or module.weight_function or module.bias_function
    return (
        not is_patched_at_use
        and weight._qdata.device.type == "cpu"
        and not params.convrot
        and not getattr(params, "transposed", False)
    )


def _multiply(tokens: Tensor, integers: Tensor) -> Tensor:
    """Return tokens (N, in) times integers (out, in), in the tokens' type."""
    if tokens.dtype == torch.bfloat16 and (len(tokens) <= FEW_TOKENS or not HAS_BF16):
        return torch.ops.aten._weight_int8pack_mm(tokens, integers, tokens.new_ones(len(integers)))
    parts = [nn.functional.linear(tokens, rows.to(tokens.dtype)) for rows in integers.split(ROWS)]
    return torch.cat(parts, dim=-1)

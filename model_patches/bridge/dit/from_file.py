"""Compute on the processor from weights that stay in their mapped file, where memory is too small for a copy."""

import logging
from collections.abc import Mapping
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.utils
import torch
from comfy.model_patcher import LowVramPatch
from comfy.patcher_extension import CallbacksMP
from torch import Tensor

LORA_KEY = "magic141_lora_at_use"


class FromFile(comfy.ops.manual_cast):
    """The host's operations that cast weights at use, with Linears that keep a loaded weight and do not copy it."""

    class Linear(comfy.ops.manual_cast.Linear):
        def __init__(self, in_features, out_features, bias=True, device=None, dtype=None) -> None:
            super().__init__(in_features, out_features, bias=bias, device="meta", dtype=dtype)

        def _load_from_state_dict(
            self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        ) -> None:
            local_metadata = {**local_metadata, "assign_to_params_buffers": True}
            super()._load_from_state_dict(
                state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
            )

        def set_weight(
            self, weight: Tensor, inplace_update=False, seed=None, return_weight=False
        ) -> Tensor | None:
            """Keep the file's weight when the host would put in one with a LoRA merged: the LoRA is added at use."""
            assert not inplace_update
            return weight.to(self.weight.dtype) if return_weight else None


def add_lora_at_use(patcher: comfy.model_patcher.ModelPatcher) -> comfy.model_patcher.ModelPatcher:
    """Make every load of this patcher, and of its clones, apply LoRA when a weight is used; in place.

    For loaders, which own the model. It does nothing to a model whose weights were copied.
    """
    if any(isinstance(module, FromFile.Linear) for module in patcher.model.modules()):
        patcher.add_callback_with_key(CallbacksMP.ON_LOAD, LORA_KEY, _put_lora_beside_weights)
    return patcher


def _put_lora_beside_weights(patcher: comfy.model_patcher.ModelPatcher, *_) -> None:
    for name, module in patcher.model.named_modules():
        if isinstance(module, FromFile.Linear):
            key = f"{name}.weight"
            lora = [LowVramPatch(key, patcher.patches)] if key in patcher.patches else []
            others = [
                function for function in module.weight_function if not isinstance(function, LowVramPatch)
            ]
            module.weight_function = [*lora, *others]


def loading_options(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the host's loading options for mapped weights: none where its usual copy fits into memory.

    On the processor alone the host copies weights of 16 bits into float32 ones. Where that does not fit into the free
    memory they stay as they are, and each is cast when it is used; the results are the same.
    """
    device = comfy.model_management.get_torch_device()
    is_quantized = any(key.endswith(".comfy_quant") for key in weights)
    if is_quantized or not comfy.model_management.is_device_cpu(device):
        return {}
    needed = copied_bytes(weights)
    free = comfy.model_management.get_free_memory(device)
    assert isinstance(free, int)
    if needed + comfy.model_management.minimum_inference_memory() < free:
        return {}
    logging.info(
        "Magic141: a float32 copy of the weights would take %.1f GB, but only %.1f GB are free. They are read from the "
        "file at each step instead, which is slower. Quantize File makes a smaller model.",
        needed / 1e9,
        free / 1e9,
    )
    return {"dtype": comfy.utils.weight_dtype(weights), "custom_operations": FromFile}


def copied_bytes(weights: Mapping[str, Tensor]) -> int:
    """Return the bytes of a float32 copy of all weights."""
    return sum(tensor.numel() for tensor in weights.values()) * torch.float32.itemsize

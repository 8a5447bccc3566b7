"""Compute on the processor from weights that stay in their mapped file, where a copy of them would not fit."""

import logging
from collections.abc import Mapping
from typing import Any

import comfy.model_management
import comfy.ops
import comfy.utils
import torch
from torch import Tensor


class FromFile(comfy.ops.manual_cast):
    """The host's operations that cast weights at use, with Linears that take a weight over instead of copying it."""

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


def loading_options(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the host's loading options for mapped weights: none where its own way fits.

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
        "Magic141: a float32 copy of the weights would take %.1f GB and %.1f are free: they are read from the file "
        "at each step instead, which is slower. Quantize File makes a smaller model.",
        needed / 1e9,
        free / 1e9,
    )
    return {"dtype": comfy.utils.weight_dtype(weights), "custom_operations": FromFile}


def copied_bytes(weights: Mapping[str, Tensor]) -> int:
    """Return the bytes of a float32 copy of all weights."""
    return sum(tensor.numel() for tensor in weights.values()) * torch.float32.itemsize

"""Put a plain (transformers) module under the host's memory management."""

import ctypes
import sys
import time
from functools import cache

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import torch
from torch import Tensor, nn

from ...encoders.cancel import ask_between_layers

# The host's twins of these layers stream weights that stay off the device (lowvram, dynamic offload).
HOST_TWINS = {
    nn.Linear: comfy.ops.disable_weight_init.Linear,
    nn.Embedding: comfy.ops.disable_weight_init.Embedding,
    nn.LayerNorm: comfy.ops.disable_weight_init.LayerNorm,
    nn.Conv2d: comfy.ops.disable_weight_init.Conv2d,
}


class Float32Embedding(comfy.ops.manual_cast.Embedding):
    """An embedding whose vectors are float32 whatever its weight is: what follows then computes in float32."""

    def forward(self, *args, **kwargs) -> Tensor:
        return super().forward(*args, **kwargs).float()


# These cast their weights to the input's dtype, one layer at a time.
CASTING_TWINS = {
    nn.Linear: comfy.ops.manual_cast.Linear,
    nn.Embedding: Float32Embedding,
    nn.LayerNorm: comfy.ops.manual_cast.LayerNorm,
    nn.Conv2d: comfy.ops.manual_cast.Conv2d,
}

HALF = (torch.bfloat16, torch.float16)
SLOW_RATIO = 1.5
"""Casting a weight to float32 costs about a third of the product it is for."""


def use_host_layers(module: nn.Module, *, in_float32: bool = False) -> nn.Module:
    """Give every plain layer the host's class of the same name, in place, weights untouched.

    The twins are subclasses that add nothing but class attributes and a forward which fetches offloaded weights,
    so an instance can take the class over. Subclasses (int8 layers) keep theirs.

    Args:
        in_float32: compute in float32 although the weights are of another dtype.
    """
    twins = CASTING_TWINS if in_float32 else HOST_TWINS
    for child in module.modules():
        twin = twins.get(type(child))
        if twin is not None:
            child.__class__ = twin
            if not hasattr(child, "bias"):  # the host's embedding carries an empty one
                child.register_parameter("bias", None)
    return module


def host_managed(module: nn.Module) -> comfy.model_patcher.CoreModelPatcher:
    """Return a patcher the host loads and offloads like its own text encoders.

    On a processor that is slow at half precision the weights stay as they are and every layer computes in float32.
    """
    device = comfy.model_management.text_encoder_device()
    halves = {parameter.dtype for parameter in module.parameters()} & set(HALF)
    on_cpu = comfy.model_management.is_device_cpu(device)
    use_host_layers(module, in_float32=on_cpu and any(is_slow_on_cpu(dtype) for dtype in halves))
    ask_between_layers(module)
    comfy.model_management.archive_model_dtypes(module)
    return comfy.model_patcher.CoreModelPatcher(
        module,
        load_device=device,
        offload_device=comfy.model_management.text_encoder_offload_device(),
    )


@cache
def is_slow_on_cpu(dtype: torch.dtype) -> bool:
    """Return whether this processor multiplies matrices of ``dtype`` much slower than float32 ones; measured once."""
    return _product_seconds(dtype) > SLOW_RATIO * _product_seconds(torch.float32)


def _product_seconds(dtype: torch.dtype) -> float:
    """Return how long a product takes of about the size of the encoders' own; small ones tell little of them."""
    rows, weight = torch.ones(256, 2048, dtype=dtype), torch.ones(2048, 2048, dtype=dtype)
    taken = []
    for _ in range(3):
        started = time.perf_counter()
        nn.functional.linear(rows, weight)
        taken.append(time.perf_counter() - started)
    return min(taken)


def return_freed_memory() -> None:
    """Have Linux' C library return to the system what was freed; of its own accord it does so only at its heaps' ends.

    Between weights that replaced others gigabytes can be left: torch asks for aligned memory, which seldom fits a gap.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def load_managed(patcher: comfy.model_patcher.CoreModelPatcher, memory_required: int) -> torch.device:
    """Let the host move a module to its device, all of it or as much as fits, and return that device."""
    comfy.model_management.load_models_gpu([patcher], memory_required=memory_required)
    device = patcher.load_device
    if not patcher.is_dynamic():
        _move_unstreamed(patcher.model, device)
    return device


def _move_unstreamed(module: nn.Module, device: torch.device) -> None:
    """Move what a partial load leaves behind: parameters and buffers of classes the host cannot stream (norms)."""
    for child in module.modules():
        if not hasattr(child, "comfy_cast_weights"):
            for tensor in (*child.parameters(recurse=False), *child.buffers(recurse=False)):
                tensor.data = tensor.data.to(device)

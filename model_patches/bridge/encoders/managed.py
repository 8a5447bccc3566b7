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

from ...encoders.cancel import check_between_layers

# The host's classes for these layers can stream weights that are not on the device (lowvram, dynamic offload).
HOST_TWINS = {
    nn.Linear: comfy.ops.disable_weight_init.Linear,
    nn.Embedding: comfy.ops.disable_weight_init.Embedding,
    nn.LayerNorm: comfy.ops.disable_weight_init.LayerNorm,
    nn.Conv2d: comfy.ops.disable_weight_init.Conv2d,
}


class Float32Embedding(comfy.ops.manual_cast.Embedding):
    """An embedding that returns float32 whatever its weight is, so that the layers after it compute in float32."""

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
"""Half precision counts as slow if it takes so many times as long: casting costs about a third of a product."""


def use_host_layers(module: nn.Module, *, in_float32: bool = False) -> nn.Module:
    """Give every plain layer the host's class of the same name, in place, weights untouched.

    The host's classes add only class attributes and a forward that fetches offloaded weights, so the class of an
    instance can be changed to them. Subclasses of plain layers (int8 layers) keep their class.

    Args:
        in_float32: compute in float32 although the weights have another dtype.
    """
    twins = CASTING_TWINS if in_float32 else HOST_TWINS
    for child in module.modules():
        twin = twins.get(type(child))
        if twin is not None:
            child.__class__ = twin
            if not hasattr(child, "bias"):  # the host's embedding has an empty one
                child.register_parameter("bias", None)
    return module


def host_managed(module: nn.Module) -> comfy.model_patcher.CoreModelPatcher:
    """Return a patcher that the host loads and offloads like its own text encoders.

    On a processor that is slow at half precision the weights stay as they are and every layer computes in float32.
    """
    device = comfy.model_management.text_encoder_device()
    halves = {parameter.dtype for parameter in module.parameters()} & set(HALF)
    on_cpu = comfy.model_management.is_device_cpu(device)
    use_host_layers(module, in_float32=on_cpu and any(is_slow_on_cpu(dtype) for dtype in halves))
    check_between_layers(module)
    comfy.model_management.archive_model_dtypes(module)
    return comfy.model_patcher.CoreModelPatcher(
        module,
        load_device=device,
        offload_device=comfy.model_management.text_encoder_offload_device(),
    )


@cache
def is_slow_on_cpu(dtype: torch.dtype) -> bool:
    """Say whether this processor multiplies matrices of ``dtype`` much slower than float32 ones; measured once."""
    return _product_seconds(dtype) > SLOW_RATIO * _product_seconds(torch.float32)


def _product_seconds(dtype: torch.dtype) -> float:
    """Return the seconds of a product of about the encoders' size; the times of small ones say little about it."""
    rows, weight = torch.ones(256, 2048, dtype=dtype), torch.ones(2048, 2048, dtype=dtype)
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        nn.functional.linear(rows, weight)
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def return_freed_memory() -> None:
    """Let the C library of Linux return freed memory to the system; by itself it returns only the end of each heap.

    When weights replace others, gigabytes can stay unused: torch asks for aligned memory, which rarely fits into a gap.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def load_managed(patcher: comfy.model_patcher.CoreModelPatcher, memory_required: int) -> torch.device:
    """Let the host move a module to its device, whole or as much as fits, and return that device."""
    comfy.model_management.load_models_gpu([patcher], memory_required=memory_required)
    device = patcher.load_device
    if not patcher.is_dynamic():
        _move_unstreamed(patcher.model, device)
    return device


def _move_unstreamed(module: nn.Module, device: torch.device) -> None:
    """Move what a partial load leaves behind: parameters and buffers of layers the host cannot stream (norms)."""
    for child in module.modules():
        if not hasattr(child, "comfy_cast_weights"):
            for tensor in (*child.parameters(recurse=False), *child.buffers(recurse=False)):
                tensor.data = tensor.data.to(device)

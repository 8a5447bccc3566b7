"""Put a plain (transformers) module under the host's memory management."""

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import torch
from torch import nn

# The host's twins of these layers stream weights that stay off the device (lowvram, dynamic offload).
HOST_TWINS = {
    nn.Linear: comfy.ops.disable_weight_init.Linear,
    nn.Embedding: comfy.ops.disable_weight_init.Embedding,
    nn.LayerNorm: comfy.ops.disable_weight_init.LayerNorm,
    nn.Conv2d: comfy.ops.disable_weight_init.Conv2d,
}


def use_host_layers(module: nn.Module) -> nn.Module:
    """Give every plain layer the host's class of the same name, in place, weights untouched.

    The twins are subclasses that add nothing but class attributes and a forward which fetches offloaded weights,
    so an instance can take the class over. Subclasses (int8 layers) keep theirs.
    """
    for child in module.modules():
        twin = HOST_TWINS.get(type(child))
        if twin is not None:
            child.__class__ = twin
            if not hasattr(child, "bias"):  # the host's embedding carries an empty one
                child.bias = None
    return module


def host_managed(module: nn.Module) -> comfy.model_patcher.CoreModelPatcher:
    """Return a patcher the host loads and offloads like its own text encoders."""
    use_host_layers(module)
    comfy.model_management.archive_model_dtypes(module)
    return comfy.model_patcher.CoreModelPatcher(
        module,
        load_device=comfy.model_management.text_encoder_device(),
        offload_device=comfy.model_management.text_encoder_offload_device(),
    )


def load_managed(patcher: comfy.model_patcher.CoreModelPatcher, memory_required: int) -> torch.device:
    """Have the host bring a module to its device (wholly, or as far as fits) and return that device."""
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

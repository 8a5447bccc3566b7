"""Quantize the LLM and VLM of encoders of either kind; the host goes on managing their memory."""

import copy
from collections import OrderedDict
from collections.abc import Iterator

import comfy.model_management
import comfy.utils
import torch
from comfy.model_patcher import ModelPatcher
from torch import nn

from ...int8.quantize import QuantizationPlan, quantize_layer
from ...store.cancel import Progress, no_progress
from ..encoders.from_clip import HostClipBackend
from ..encoders.managed import host_managed, return_freed_memory
from ..encoders.socket import HuggingFaceBackend, Magic141Encoders
from ..int8_ops import int8_operations, is_quantized
from .model import patcher_around

#: The VLM's language part is the LLM: one set of weights serves both.
LLM_PARTS = ("language_model",)
VISION_PARTS = ("vision_tower", "multi_modal_projector")
CLIP_LLM_PARTS = ("llama.transformer.",)
CLIP_VISION_PARTS = ("vision_model.encoder.", "multi_modal_projector")

#: How attributes begin that the host sets on modules it manages; a copy starts without them.
HOST_NOTES = (
    "_v", "_prefetch", "_pin", "comfy_", "prev_comfy_", "weight_", "bias_", "dynamic_", "model_", "seed_key",
    "lowvram_", "current_weight_", "device",
)  # fmt: skip


def quantize_encoders(
    encoders: Magic141Encoders,
    plan: QuantizationPlan,
    *,
    llm: bool = True,
    vlm: bool = True,
    progress: Progress = no_progress,
) -> Magic141Encoders:
    """Return encoders with int8 Linears; the given ones stay as they are and share what is not quantized.

    Args:
        plan: weight-only; embeddings and norms are never quantized.
        llm: the LLaMA, which is both the prompt's LLM and the language part of the VLM.
        vlm: the VLM's vision tower and projector.
    Raises:
        ValueError: quantized already.
    """
    with torch.inference_mode():
        if isinstance(encoders.backend, HuggingFaceBackend):
            parts = (LLM_PARTS if llm else ()) + (VISION_PARTS if vlm else ())
            quantized = copy.copy(encoders.backend)
            quantized.vlm = copy_module(quantized.vlm)
            _quantize_linears(quantized.vlm, parts, plan, progress)
            quantized.vlm_patcher = host_managed(quantized.vlm)
        else:
            assert isinstance(encoders.backend, HostClipBackend), type(encoders.backend)
            quantized = _quantized_clip(encoders.backend, plan, llm=llm, vlm=vlm, progress=progress)
    return_freed_memory()
    return Magic141Encoders(quantized)


def encoders_bytes(encoders: Magic141Encoders) -> int:
    """Return the bytes of the weights of LLM and VLM, as the host counts them."""
    backend, size = encoders.backend, comfy.model_management.module_size
    if isinstance(backend, HuggingFaceBackend):
        return size(backend.vlm)
    assert isinstance(backend, HostClipBackend), type(backend)
    vision = 0 if backend.clip_vision is None else size(backend.clip_vision.model)
    return size(backend.clip.cond_stage_model) + vision


def _quantized_clip(
    backend: HostClipBackend, plan: QuantizationPlan, *, llm: bool, vlm: bool, progress: Progress
) -> HostClipBackend:
    """Return a backend whose CLIP and CLIP_VISION are quantized twins of the host's own."""
    clip, vision = backend.clip, backend.clip_vision
    if llm:
        clip = clip.clone()
        clip.patcher = _quantized_patcher(clip.patcher, CLIP_LLM_PARTS, plan, progress)
        clip.cond_stage_model = clip.patcher.model
    if vlm and vision is not None:
        vision = copy.copy(vision)
        vision.patcher = _quantized_patcher(vision.patcher, CLIP_VISION_PARTS, plan, progress)
        vision.model = vision.patcher.model
    return HostClipBackend(clip, vision)


def _quantized_patcher(
    patcher: ModelPatcher, parts: tuple[str, ...], plan: QuantizationPlan, progress: Progress
) -> ModelPatcher:
    model = copy_module(patcher.model)
    for key, backup in patcher.backup.items():  # LoRA may be merged right now
        comfy.utils.set_attr_param(model, key, backup.weight)
    _quantize_linears(model, parts, plan, progress)
    comfy.model_management.archive_model_dtypes(model)
    return patcher_around(patcher, model)


def copy_module(module: nn.Module, _copies: dict[int, nn.Module] | None = None) -> nn.Module:
    """Copy a tree of modules without copying weights: each has parameters of its own over the same memory."""
    copies = {} if _copies is None else _copies
    if id(module) in copies:
        return copies[id(module)]
    twin = object.__new__(type(module))
    copies[id(module)] = twin
    for key, value in vars(module).items():
        if not key.startswith(HOST_NOTES):
            vars(twin)[key] = value.copy() if isinstance(value, OrderedDict) else value
    twin._parameters = {
        k: None if p is None else nn.Parameter(p.detach().to("cpu"), requires_grad=False)
        for k, p in module._parameters.items()
    }
    twin._buffers = {k: None if b is None else b.to("cpu") for k, b in module._buffers.items()}
    twin._modules = {k: None if m is None else copy_module(m, copies) for k, m in module._modules.items()}
    return twin


def _quantize_linears(
    model: nn.Module, parts: tuple[str, ...], plan: QuantizationPlan, progress: Progress
) -> None:
    for name, module in model.named_modules():
        if name.startswith(parts) and is_quantized(module):
            raise ValueError(f"These encoders are quantized already ({name}).")
    linears = list(_linears(model, parts))
    for done, (name, parent, attribute, linear) in enumerate(linears, start=1):
        setattr(parent, attribute, _quantized(linear, plan, name))
        progress(done, len(linears))


def _linears(model: nn.Module, parts: tuple[str, ...]) -> Iterator[tuple[str, nn.Module, str, nn.Linear]]:
    for name, parent in model.named_modules():
        for attribute, child in parent.named_children():
            path = f"{name}.{attribute}" if name else attribute
            if path.startswith(parts) and isinstance(child, nn.Linear):
                yield path, parent, attribute, child


def _quantized(linear: nn.Linear, plan: QuantizationPlan, name: str) -> nn.Module:
    layer = quantize_layer(linear.weight.to(comfy.model_management.text_encoder_device()), plan, name=name)
    state_dict = {key: tensor.to("cpu") for key, tensor in layer.items()}
    if linear.bias is not None:
        state_dict["bias"] = linear.bias
    operations = int8_operations(linear.weight.dtype)
    quantized = operations.Linear(
        linear.in_features, linear.out_features, bias=linear.bias is not None, device="cpu"
    )
    quantized.load_state_dict(state_dict)
    return quantized

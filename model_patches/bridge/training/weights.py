"""Take the weights to train out of a MODEL, and put what was learned back into one."""

from collections.abc import Mapping

import comfy.lora
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import torch
from torch import Tensor

from ...store.cancel import until_canceled
from ..checks import check_model

DIT = "diffusion_model."


def free_devices() -> None:
    """Unload the host's models: training needs the memory, and unloading takes merged LoRAs out of their weights."""
    comfy.model_management.unload_all_models()
    comfy.model_management.soft_empty_cache()


def student_weights(model: comfy.model_patcher.ModelPatcher) -> dict[str, Tensor]:
    """Return a MODEL's weights in the host's names, its LoRAs added in, as tensors that can be trained.

    Call ``free_devices`` first: until then a LoRA of another clone may be merged into the very same weights.

    Raises:
        ValueError: the model is of another layout, or its weights are quantized.
    """
    check_model(model)
    weights = {}
    for key, weight in until_canceled(model.model.diffusion_model.state_dict().items()):
        _check_plain(key, weight, "model")
        weights[key] = _with_patches(model, DIT + key, weight, weight.dtype)
    return weights


def changed_weights(
    student: comfy.model_patcher.ModelPatcher, model: comfy.model_patcher.ModelPatcher
) -> dict[str, Tensor]:
    """Return the student's weights that differ from the model's, in float32 so that LoRAs lose nothing.

    Raises:
        ValueError: the student is of another layout, its weights are quantized, or it does not differ from the model.
    """
    check_model(student)
    changed = {}
    model_weights = model.model.diffusion_model.state_dict()
    for key, weight in until_canceled(student.model.diffusion_model.state_dict().items()):
        name, other = DIT + key, model_weights.get(key)
        same = other is not None and weight.shape == other.shape and torch.equal(weight, other)
        patches = [patcher.patches.get(name, []) for patcher in (student, model)]
        if same and len(patches[0]) == len(patches[1]) and all(a is b for a, b in zip(*patches, strict=True)):
            continue
        _check_plain(key, weight, "student")
        changed[key] = _with_patches(student, name, weight, torch.float32)
    if not changed:
        raise ValueError(
            "The MODEL at student is the same as the one at model. Put a LoRA on it with Load LoRA, or leave student "
            "empty to start from the model itself."
        )
    return changed


def _check_plain(key: str, weight: Tensor, input_name: str) -> None:
    """Refuse a weight that is not a plain floating-point tensor."""
    if type(weight) not in (Tensor, torch.nn.Parameter) or not weight.is_floating_point():
        raise ValueError(
            f"The MODEL at {input_name} is quantized ({key} is no plain weight) and cannot be trained. Load the bf16, "
            "fp16 or fp32 file; what comes out can be quantized again."
        )


def _with_patches(
    model: comfy.model_patcher.ModelPatcher, key: str, weight: Tensor, dtype: torch.dtype
) -> Tensor:
    """Return a copy of a weight on the CPU with the model's patches of it added in."""
    copy = weight.detach().to("cpu", copy=True)
    if key in model.patches:
        copy = comfy.lora.calculate_weight(model.patches[key], copy.float(), key)
    return copy.to(dtype)


def with_lora(
    model: comfy.model_patcher.ModelPatcher, lora: Mapping[str, Tensor]
) -> comfy.model_patcher.ModelPatcher:
    """Return a clone with a LoRA on it, as stock LoraLoaderModelOnly makes it."""
    patched, _ = comfy.sd.load_lora_for_models(model, None, dict(lora), 1.0, 0.0)
    assert patched is not None
    num_layers = sum(name.endswith(".lora_A.weight") for name in lora)
    fitted = {
        key for key, patches in patched.patches.items() if len(patches) > len(model.patches.get(key, []))
    }
    assert len(fitted) == num_layers, f"{num_layers - len(fitted)} parts of the LoRA fit no weight"
    return patched

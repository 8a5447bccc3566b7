"""Take the weights to train out of a MODEL, and put what was learnt back into one."""

from collections.abc import Mapping

import comfy.lora
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import torch
from torch import Tensor

from .checks import check_model

DIT = "diffusion_model."


def free_devices() -> None:
    """Put the host's networks off their devices: training needs the memory, and merged LoRAs are taken out again."""
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
    for key, weight in model.model.diffusion_model.state_dict().items():
        if not is_plain(weight):
            raise ValueError(
                f"This MODEL is quantized ({key} is no plain weight) and cannot be trained. Load the bf16, fp16 or "
                "fp32 file; what comes out can be quantized again."
            )
        weights[key] = _with_patches(model, DIT + key, weight)
    return weights


def is_plain(weight: Tensor) -> bool:
    """Tell whether a weight holds its own values: no quantized tensor, no integers."""
    return type(weight) in (Tensor, torch.nn.Parameter) and weight.is_floating_point()


def _with_patches(model: comfy.model_patcher.ModelPatcher, key: str, weight: Tensor) -> Tensor:
    """Return a copy of a weight on the CPU with the model's patches of it added in."""
    copy = weight.detach().to("cpu", copy=True)
    if key not in model.patches:
        return copy
    changed = comfy.lora.calculate_weight(model.patches[key], copy.float(), key)
    return changed.to(copy.dtype)


def with_lora(
    model: comfy.model_patcher.ModelPatcher, lora: Mapping[str, Tensor]
) -> comfy.model_patcher.ModelPatcher:
    """Return a clone with a LoRA on it, as stock LoraLoaderModelOnly makes it.

    Raises:
        ValueError: a part of the LoRA found no weight.
    """
    patched, _ = comfy.sd.load_lora_for_models(model, None, dict(lora), 1.0, 0.0)
    wanted = sum(name.endswith(".lora_A.weight") for name in lora)
    fitted = {
        key for key, patches in patched.patches.items() if len(patches) > len(model.patches.get(key, []))
    }
    assert len(fitted) == wanted, f"{wanted - len(fitted)} parts of the LoRA fit no weight"
    return patched

"""MODEL to quantized MODEL: the host's tensors, the host's memory management, clones and patches kept."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import comfy.model_patcher
import comfy.patcher_extension
import folder_paths
import torch
from comfy.model_patcher import ModelPatcher
from comfy.quant_ops import QuantizedTensor
from torch import Tensor

from ...dit.stream import refuse_to_overwrite
from ...dit.weights_file import read_header
from ...int8.file import provenance, read_kept, save_state_dict
from ...int8.quantize import QuantizationPlan, quantize_layer
from ...store.cancel import Progress, no_progress, until_canceled
from ...store.names import path_fault
from ..int8_ops import int8_operations, keep_lora_exact
from .blocks import block_weights, linear_weights

DIT = "diffusion_model."
SUFFIX = ".safetensors"
FLOATS = (torch.float32, torch.float16, torch.bfloat16)


def quantize_model(
    patcher: ModelPatcher, plan: QuantizationPlan, *, progress: Progress = no_progress
) -> ModelPatcher:
    """Return a quantized MODEL; the given one stays as it is.

    Patches (LoRA), options, wrappers and callbacks of the given MODEL are carried over.

    Args:
        progress: called with (layers done, layers in all).
    Raises:
        ValueError: the model is quantized already, has no transformer blocks of this layout, carries a
            compiled or bypassed copy of its layers, or holds NaN or Inf.
    """
    check_quantizable(patcher, plan)
    with torch.inference_mode():
        model = _rebuild(patcher, quantized_state_dict(patcher, plan, progress=progress))
    quantized = patcher_around(patcher, model)
    source = patcher.cached_patcher_init  # how to build the MODEL again, for torch.compile and several GPUs
    quantized.cached_patcher_init = None if source is None else (_quantize_from_init, (source, plan))
    return quantized


def patcher_around(patcher: ModelPatcher, model: torch.nn.Module) -> ModelPatcher:
    """Return a clone of a patcher around another model, its patches added at use."""
    other = patcher.clone(model_override=(model, ({}, {}, {}, set())))
    other.size = 0
    other.parent = None
    other.clone_base_uuid = uuid.uuid4()
    keep_lora_exact(other)
    return other


def quantized_state_dict(
    patcher: ModelPatcher, plan: QuantizationPlan, *, progress: Progress = no_progress
) -> dict[str, Tensor]:
    """Return the DiT's state dict, the planned layers in the host's quantized keys, without any patch merged."""
    weights = dict(unpatched_weights(patcher))
    planned = planned_weights(patcher, plan)
    state_dict = {key: weight for key, weight in weights.items() if key not in planned}
    for done, key in enumerate(until_canceled(planned), start=1):
        name = key.removesuffix(".weight")
        layer = quantize_layer(weights[key].to(patcher.load_device), plan, name=name)
        state_dict |= {f"{name}.{part}": tensor.to(patcher.offload_device) for part, tensor in layer.items()}
        progress(done, len(planned))
    return state_dict


def unpatched_weights(patcher: ModelPatcher) -> Iterator[tuple[str, Tensor]]:
    """Yield the DiT's keys (without prefix) and weights as loaded from the file, LoRA not merged."""
    for key, tensor in patcher.model.diffusion_model.state_dict().items():
        backup = patcher.backup.get(DIT + key)
        yield key, tensor if backup is None else backup.weight


def planned_weights(patcher: ModelPatcher, plan: QuantizationPlan) -> list[str]:
    """Return the names of the weights that the plan quantizes."""
    dit = patcher.model.diffusion_model
    shapes = {key: tuple(weight.shape) for key, weight in unpatched_weights(patcher)}
    layers = {key: key.removesuffix(".weight") for key in linear_weights(dit)}
    return plan.choose(shapes, layers, block_weights(dit))


def check_quantizable(patcher: ModelPatcher, plan: QuantizationPlan) -> None:
    """Raise ValueError, saying what to change, for a MODEL that cannot be quantized as planned."""
    weights = dict(unpatched_weights(patcher))
    for key, tensor in weights.items():
        if key.endswith(".comfy_quant") or isinstance(tensor, QuantizedTensor):
            raise ValueError(
                f"This model is quantized already ({key}). Load the bf16, fp16 or fp32 checkpoint instead."
            )
        if key.endswith(".weight") and tensor.dtype not in FLOATS:
            raise ValueError(
                f"{key} is {tensor.dtype}: this model is quantized already. Load the bf16, fp16 or fp32 "
                "checkpoint, with weight_dtype `default`."
            )
    if not planned_weights(patcher, plan):
        raise ValueError(
            f"{type(patcher.model).__name__} has no Linear layers in repeated blocks to quantize. "
            "Connect a MODEL that is a transformer."
        )
    _check_nothing_holds_the_layers(patcher)


def _check_nothing_holds_the_layers(patcher: ModelPatcher) -> None:
    """Refuse a MODEL whose layers cannot be replaced, because something else refers to them."""
    compiled = patcher.wrappers.get(comfy.patcher_extension.WrappersMP.APPLY_MODEL, {}).get("torch.compile")
    if compiled or any(key.startswith(DIT.rstrip(".")) for key in patcher.object_patches):
        raise ValueError(
            "This model's layers are compiled or replaced already. Put Int8 Quantize before that node."
        )
    if patcher.injections:
        raise ValueError("A LoRA (Bypass) is applied to this model. Put Int8 Quantize before it.")


def _rebuild(patcher: ModelPatcher, state_dict: dict[str, Tensor]):
    """Make the host's model of the same configuration again, around quantized weights."""
    source = patcher.model
    config = object.__new__(type(source.model_config))
    config.__dict__.update(source.model_config.__dict__)
    config.unet_config = dict(source.model_config.unet_config)
    config.quant_config = {"mixed_ops": True}
    config.custom_operations = int8_operations(source.get_dtype_inference())
    model = config.get_model(state_dict, "")
    model.load_model_weights(dict(state_dict), "", assign=patcher.is_dynamic())
    return model


def _quantize_from_init(source: tuple, plan: QuantizationPlan, disable_dynamic: bool = False) -> ModelPatcher:
    """Build a quantized MODEL again, as the host asks for."""
    function, arguments, *index = source
    patcher = function(*arguments, disable_dynamic=disable_dynamic)
    return quantize_model(patcher[index[0]] if index else patcher, plan)


def kept_layers(patcher: ModelPatcher) -> tuple[tuple[str, ...], str]:
    """Return the layers that were kept when a MODEL, or its file, was quantized here, and how they were chosen."""
    if not patcher.cached_patcher_init:
        return (), ""
    function, arguments, *_ = patcher.cached_patcher_init
    if function is _quantize_from_init:
        _, plan = arguments
        return plan.keep, plan.found_by
    path = arguments[0] if arguments and isinstance(arguments[0], (str, Path)) else ""
    is_file = Path(path).suffix == SUFFIX and Path(path).is_file()
    return read_kept(read_header(path)) if is_file else ((), "")


def saved_path(name: str, *, overwrite: bool, folder: str = "diffusion_models") -> Path:
    """Return the path in a folder of models for a name the artist typed; subfolders are made.

    Raises:
        ValueError: the name leaves the folder or has another ending.
        FileExistsError: the file is there and may not be replaced.
    """
    root = Path(folder_paths.models_dir) / folder
    if problem := path_fault(name.replace(os.sep, "/"), f"a file in models/{folder}"):
        raise ValueError(problem)
    relative = PurePosixPath(name.replace(os.sep, "/"))
    if relative.suffix in (".pth", ".pt", ".gguf", ".ckpt", ".bin"):
        raise ValueError(f"{name!r}: the file is written as {SUFFIX}.")
    target = root / (relative if relative.suffix == SUFFIX else f"{relative}{SUFFIX}")
    target.parent.mkdir(parents=True, exist_ok=True)
    refuse_to_overwrite(target, overwrite=overwrite)
    return target


def save_quantized(quantized: ModelPatcher, target: Path, plan: QuantizationPlan, *, overwrite: bool) -> int:
    """Write the DiT of a freshly quantized MODEL in the host's keys; LoRA is not baked in. Returns the bytes."""
    state_dict = quantized.model.diffusion_model.state_dict()
    assert not any(key.startswith(DIT) for key in quantized.backup), "weights are patched"
    return save_state_dict(
        state_dict,
        target,
        metadata=provenance(plan.entry, {"name": "a MODEL in ComfyUI"}),
        overwrite=overwrite,
    )

"""Save a quantized MODEL where ComfyUI looks for diffusion models."""

import os
from pathlib import Path, PurePosixPath

import folder_paths
from comfy.model_patcher import ModelPatcher

from ..int8 import QuantizationPlan
from ..store.int8_files import provenance, save_state_dict
from ..store.safetensors_stream import refuse_to_overwrite
from .image_folders import MAX_NAME_LENGTH
from .int8 import DIT

SUFFIX = ".safetensors"


def saved_path(name: str, *, overwrite: bool) -> Path:
    """Return the path in models/diffusion_models for a name the artist typed; subfolders are made.

    Raises:
        ValueError: the name leaves the folder or has another ending.
        FileExistsError: the file is there and may not be replaced.
    """
    root = Path(folder_paths.models_dir) / "diffusion_models"
    relative = PurePosixPath(name.strip().replace(os.sep, "/"))
    strange = ":" in name or not name.strip().isprintable() or len(relative.name) > MAX_NAME_LENGTH
    if relative.is_absolute() or ".." in relative.parts or strange or not relative.name:
        raise ValueError(
            f"{name!r} is no file name in models/diffusion_models. Write something like my_model_int8."
        )
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
        state_dict, target, metadata=provenance(plan, {"name": "a MODEL in ComfyUI"}), overwrite=overwrite
    )

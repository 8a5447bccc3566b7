"""The embedded models as files in the pack, for measurements of the weights that ship."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from ...model_patches.training.adapters import merge_lora
from .. import world
from .data import Dataset, Encoders
from .taehv import Taehv

MODELS = Path(__file__).resolve().parents[2] / "embedded" / "models"
DITS = MODELS / "diffusion_models"
TI2V, T2V = "magic141_shapes_ti2v", "magic141_shapes_t2v"
GUIDED = f"{TI2V}_cfg"
CHUNK = 50


def shipped_encoders(vae: Taehv) -> Encoders:
    """Return the frozen stages, read from the pack instead of from the training cache.

    Args:
        vae: the autoencoder; shipped padded to TAEHV's stock width, which computes the same as the narrow one.
    """
    return Encoders(
        *(MODELS / "text_encoders" / f"magic141_shapes_{name}" for name in ("llava", "clip")), vae
    )


def shipped_vae_weights() -> dict[str, Tensor]:
    """Return the shipped autoencoder's weights, at TAEHV's stock width."""
    return load_file(MODELS / "vae" / "magic141_shapes_vae.safetensors")


def shipped_dit(name: str) -> dict[str, Tensor] | None:
    """Return a shipped DiT in the host's names and float32, None where there is no such file."""
    path = DITS / f"{name}.safetensors"
    if not path.exists():
        return None
    return {key: value.float() for key, value in load_file(path).items()}


def student_file(steps: int) -> str:
    """Return the path of the LoRA of a student of so many steps, relative to the folder of models."""
    return f"loras/{TI2V}_{steps}step.safetensors"


def shipped_student(teacher: dict[str, Tensor], steps: int) -> dict[str, Tensor] | None:
    """Return the teacher with the LoRA of a student of so many steps added, None where none ships."""
    path = MODELS / student_file(steps)
    return merge_lora(teacher, load_file(path)) if path.exists() else None


def held_out_set(encoders: Encoders, count: int, *, seed: int) -> tuple[Dataset, world.Scenes]:
    """Return held-out scenes as a data set, encoded by these encoders."""
    scenes = world.sample_scenes(count, generator=torch.Generator().manual_seed(seed), split="test")
    parts = [
        encoders.encode(scenes[slice(i, i + CHUNK)], torch.Generator().manual_seed(seed * 1_000_003 + i))
        for i in range(0, count, CHUNK)
    ]
    joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return Dataset(**joined, **encoders.null()), scenes

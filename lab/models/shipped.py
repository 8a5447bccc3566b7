"""The embedded models as files in the pack: what is measured when the weights that ship are measured."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from ...model_patches.encoders.vlm import VisionLanguageModel
from ...model_patches.training.adapters import merge_lora
from .. import world
from .data import Dataset, Encoders
from .taehv import Taehv

MODELS = Path(__file__).resolve().parents[2] / "embedded" / "models"
DITS = MODELS / "diffusion_models"
TI2V, T2V = "magic141_shapes_ti2v", "magic141_shapes_t2v"
GUIDED = f"{TI2V}_cfg"


class ShippedEncoders(Encoders):
    """The frozen stages, read from the pack instead of from training checkpoints.

    Args:
        vae: the autoencoder; shipped padded to TAEHV's stock width, which computes the same as the narrow one.
    """

    def __init__(self, vae: Taehv) -> None:
        from transformers import AutoTokenizer, CLIPModel, LlavaForConditionalGeneration

        llava, clip = (MODELS / "text_encoders" / f"magic141_shapes_{name}" for name in ("llava", "clip"))
        self.vlm = VisionLanguageModel(
            LlavaForConditionalGeneration.from_pretrained(llava, use_safetensors=True).float()
        ).eval()
        self.vlm.activation_dtype = torch.float32
        self.llm_tokenizer = AutoTokenizer.from_pretrained(llava, trust_remote_code=False)
        self.clip = CLIPModel.from_pretrained(clip, use_safetensors=True).float().eval()
        self.clip_tokenizer = AutoTokenizer.from_pretrained(clip, trust_remote_code=False)
        self.vae = vae


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
    """Return where the LoRA of a student of so many steps lies, in the folder of models."""
    return f"loras/{TI2V}_{steps}step.safetensors"


def shipped_student(teacher: dict[str, Tensor], steps: int) -> dict[str, Tensor] | None:
    """Return the teacher with the LoRA of a student of so many steps added, None where none ships."""
    path = MODELS / student_file(steps)
    return merge_lora(teacher, load_file(path)) if path.exists() else None


def held_out_set(
    encoders: Encoders, count: int, *, seed: int, chunk: int = 50
) -> tuple[Dataset, world.Scenes]:
    """Return held-out scenes as a data set, encoded now by these encoders."""
    scenes = world.sample_scenes(count, generator=torch.Generator().manual_seed(seed), split="test")
    parts = [
        encoders.encode(scenes[slice(i, i + chunk)], torch.Generator().manual_seed(seed * 1_000_003 + i))
        for i in range(0, count, chunk)
    ]
    joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return Dataset(**joined, **encoders.null()), scenes

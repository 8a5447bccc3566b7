"""Stage ``export``: write the trained stages into ``embedded/models``, each with a model card."""

import shutil

import torch
from safetensors.torch import load_file, save_file

from .data import Encoders
from .preview import export_preview
from .run import stage_dir
from .shipped import MODELS
from .taehv import expand_widths

VAE = "vae/magic141_shapes_vae.safetensors"
TI2V = "diffusion_models/magic141_shapes_ti2v.safetensors"
T2V = "diffusion_models/magic141_shapes_t2v.safetensors"
LLAVA = "text_encoders/magic141_shapes_llava"
CLIP = "text_encoders/magic141_shapes_clip"

CARD = """# {name}

{what}

- Data: the shapes world of `lab/world`, training split (a tenth of all combinations is kept for tests).
- Seeds: 0 for the weights; step and process number for each batch.
- Command: `python3 dev.py train {stage}`; resumable, checkpoints in the user cache.
- License: Apache-2.0, like the pack.
- Figures: `python3 dev.py bench {bench} --json FILE` measures them on these weights; the README has a table.
"""


def write_card(target: str, stage: str, what: str, *, bench: str = "demo") -> None:
    """Write the model card of a file, or of a folder, in ``MODELS``; ``bench`` measures it."""
    path = MODELS / target
    card = path / "README.md" if path.is_dir() else path.with_suffix(".md")
    card.write_text(CARD.format(name=path.stem, stage=stage, what=what, bench=bench), encoding="utf-8")


def export_vae() -> None:
    """Write the autoencoder at the stock width in fp16, which is how the host knows HunyuanVideo's scaling."""
    state = {k: v.half().contiguous() for k, v in expand_widths(Encoders.load_vae()).items()}
    (MODELS / VAE).parent.mkdir(parents=True, exist_ok=True)
    save_file(state, MODELS / VAE)
    write_card(
        VAE,
        "vae",
        "Video autoencoder in the TAEHV layout, trained narrow (0.9 M parameters) and padded with zeros.",
    )


def export_dit(stage: str, target: str, what: str) -> None:
    """Write a DiT in bf16 under the host's names."""
    (MODELS / target).parent.mkdir(parents=True, exist_ok=True)
    state = load_file(stage_dir(stage) / "dit.safetensors")
    save_file({k: v.to(torch.bfloat16).contiguous() for k, v in state.items()}, MODELS / target)
    write_card(target, stage, what)


def export_folder(stage: str, target: str, what: str) -> None:
    """Copy a Hugging Face folder."""
    shutil.copytree(stage_dir(stage) / "folder", MODELS / target, dirs_exist_ok=True)
    write_card(target, stage, what)


def export() -> dict[str, float]:
    """Write everything that is trained and return the size in megabytes."""
    export_vae()
    export_folder(
        "llava",
        LLAVA,
        "Small LLaVA (LLaMA of width 128, 3 layers; 64 px vision tower); describes frames.",
    )
    export_folder(
        "clip", CLIP, "Small CLIP on captions and first frames: the DiT's pooled text, and retrieval."
    )
    export_dit(
        "t2v_clips", T2V, "Text-to-video DiT, 16 channels; with one latent frame it is a text-to-image model."
    )
    export_dit("ti2v", TI2V, "Image-to-video DiT, 33 channels, made from the T2V model as the paper does it.")
    export_preview()
    return {"megabytes": sum(p.stat().st_size for p in MODELS.rglob("*") if p.is_file()) / 1e6}

"""Stage ``export_students``: the experiment's students become the default, their teacher lies beside it.

Run it after ``export``, which writes the teacher as the default.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from .export import MODELS, TI2V, write_card
from .run import stage_dir

SEED = 0
#: What ships: the file beside the default, what it comes from (the teacher, or a student), and what it is.
SHIPPED = {
    "": ("ti2v_4step", "Image-to-video DiT distilled by DMD2: 4 steps, Euler, shift 5, no guidance."),
    "_teacher": (None, "The many-step image-to-video DiT that the default is distilled from."),
    "_2step": (
        "ti2v_2step",
        "Image-to-video DiT distilled by DMD2 for 2 steps, Euler, shift 5, no guidance.",
    ),
    "_cfg": (
        "ti2v_cfg",
        "Image-to-video DiT that takes the guidance strength as an input (g = 1 + w, 2 to 7).",
    ),
}


def export_students(folder: Path | None = None) -> dict[str, float]:
    """Write every student that is trained, in bf16, and return the sizes in megabytes."""
    seed_dir = (folder or stage_dir("experiment")) / f"seed{SEED}"
    sizes = {}
    for suffix, (student, what) in SHIPPED.items():
        source = seed_dir / f"{student}.safetensors" if student else stage_dir("ti2v") / "dit.safetensors"
        if not source.exists():
            print(f"{student} is not trained; left out", flush=True)
            continue
        target = TI2V.replace(".safetensors", f"{suffix}.safetensors")
        weights = {key: value.to(torch.bfloat16).contiguous() for key, value in load_file(source).items()}
        save_file(weights, MODELS / target)
        write_card(target, "experiment" if student else "ti2v", what)
        sizes[target] = (MODELS / target).stat().st_size / 1e6
    return sizes

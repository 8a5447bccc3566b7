"""Stage ``export_students``: write the students of the embedded image-to-video model into the pack.

Few-step students are LoRAs of it; the guidance-distilled one has one more input, so it is a whole model. Run the stage
after ``export``, which writes their teacher.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from ...model_patches.training.checkpoint import fingerprint
from ..models import export
from ..models.run import stage_dir
from ..models.shipped import GUIDED, TI2V, shipped_dit, student_file
from .student_files import LORA, read_made_of
from .students import SHIPPED_STUDENTS

SEED = 0
FEW_STEPS = (
    "LoRA of `{teacher}`: each of its {steps} steps goes as far as several steps of the guided teacher."
    " Euler, shift 5, cfg 1 (guidance is folded in)."
)
BY_DMD2 = " It was then trained by DMD2; lab/README.md says how."
LONG_VIDEOS = " It also learned to continue its own long videos; lab/README.md says how."
#: What ships: the file, what it is made of in the experiment's folder, and what it is.
SHIPPED = {
    **{
        student_file(n): (
            f"{student.name}{LORA}",
            FEW_STEPS.format(teacher=TI2V, steps=n) + (LONG_VIDEOS if student.long_videos else BY_DMD2),
        )
        for n, student in SHIPPED_STUDENTS.items()
    },
    f"diffusion_models/{GUIDED}.safetensors": (
        "ti2v_cfg.safetensors",
        "Image-to-video DiT that takes the guidance strength as an input (g = 1 + w, 2 to 7).",
    ),
}


def export_students(folder: Path | None = None) -> dict[str, float]:
    """Write every student that is trained, in bf16, and return the sizes in megabytes.

    Args:
        folder: the experiment's; the training cache if None.

    Raises:
        ValueError: a student was distilled from other weights than those that ship.
    """
    teacher = shipped_dit(TI2V)
    if teacher is None:
        raise ValueError(f"There is no {TI2V} in {export.MODELS}: run `python3 dev.py train export` first.")
    seed_dir, shipped, sizes = (folder or stage_dir("experiment")) / f"seed{SEED}", fingerprint(teacher), {}
    for target, (name, what) in SHIPPED.items():
        source, path = seed_dir / name, export.MODELS / target
        if not source.exists():
            print(f"{name} is not trained; left out.", flush=True)
            continue
        if (made_of := read_made_of(source).get("weights")) != shipped:
            raise ValueError(
                f"{name} was distilled from other weights ({made_of}) than the {TI2V} that ships ({shipped})."
                " Run `python3 dev.py train export` and then the experiment in a new folder (--out)."
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({k: v.to(torch.bfloat16).contiguous() for k, v in load_file(source).items()}, path)
        export.write_card(target, "experiment", what, bench="distill")
        sizes[target] = path.stat().st_size / 1e6
    return sizes

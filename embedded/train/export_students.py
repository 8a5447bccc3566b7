"""Stage ``export_students``: the experiment's few-step students, as LoRAs of the embedded image-to-video model.

Run it after ``export``, which writes their teacher.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from ...model_patches.training.checkpoint import fingerprint
from . import export
from .experiment import LORA, read_made_of
from .run import stage_dir
from .shipped import TI2V, shipped_dit, student_file

SEED = 0
STEPS = (4, 2)
WHAT = "LoRA of `{teacher}` distilled by DMD2: {steps} steps, Euler, shift 5, cfg 1 (guidance is folded in)."


def export_students(folder: Path | None = None) -> dict[str, float]:
    """Write the LoRA of every student that is trained, in bf16, and return the sizes in megabytes.

    Args:
        folder: the experiment's; the training cache if None.

    Raises:
        ValueError: a student was distilled from other weights than those that ship.
    """
    teacher = shipped_dit(TI2V)
    if teacher is None:
        raise ValueError(f"There is no {TI2V} in {export.MODELS}: run `python3 dev.py train export` first.")
    sizes = {}
    for steps in STEPS:
        source = (folder or stage_dir("experiment")) / f"seed{SEED}" / f"ti2v_{steps}step{LORA}"
        if not source.exists():
            print(f"The student of {steps} steps is not trained; left out.", flush=True)
            continue
        _check_teacher(source, read_made_of(source), fingerprint(teacher))
        target = student_file(steps)
        path = export.MODELS / target
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({k: v.to(torch.bfloat16).contiguous() for k, v in load_file(source).items()}, path)
        export.write_card(target, "experiment", WHAT.format(teacher=TI2V, steps=steps))
        sizes[target] = path.stat().st_size / 1e6
    return sizes


def _check_teacher(path: Path, made_of: Mapping[str, object], shipped: str) -> None:
    if made_of.get("weights") != shipped:
        raise ValueError(
            f"{path.name} was distilled from other weights ({made_of.get('weights')}) than the {TI2V} that ships"
            f" ({shipped}). Run `python3 dev.py train export` and then the experiment in a new folder (--out)."
        )

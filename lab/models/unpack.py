"""Stage ``unpack``: put the weights that ship into an empty training cache, as if they had been trained there.

It reverses ``export`` and ``export_students``: later stages (data, students) can then run without the hours of training
before them.
"""

import shutil

from safetensors.torch import load_file

from ...model_patches.training.checkpoint import fingerprint
from ..experiment.export import SEED
from ..experiment.student_files import LORA, SHIPPED, save_model
from ..experiment.students import SHIPPED_STUDENTS
from . import export
from .run import save_atomically, stage_dir
from .shipped import MODELS, TI2V, shipped_dit, shipped_student, shipped_vae_weights, student_file
from .taehv import narrow_network

FOLDERS = {"llava": export.LLAVA, "clip": export.CLIP}
DITS = {"t2v": export.T2V, "t2v_clips": export.T2V, "ti2v": export.TI2V}


def unpack() -> dict[str, str]:
    """Copy every shipped stage that the cache lacks; return the source of each."""
    done = {}
    for stage, source in FOLDERS.items():
        if not (folder := stage_dir(stage) / "folder").exists():
            part = folder.with_name("part")
            shutil.copytree(MODELS / source, part, dirs_exist_ok=True)
            part.rename(folder)
            done[stage] = source
    for stage, source in DITS.items():
        if not (file := stage_dir(stage) / "dit.safetensors").exists():
            shutil.copyfile(MODELS / source, file)
            done[stage] = source
    if not (checkpoint := stage_dir("vae") / "checkpoint.pt").exists():
        weights = narrow_network(shipped_vae_weights()).state_dict()
        save_atomically({"ema": {"vae": weights}}, checkpoint)
        done["vae"] = export.VAE
    return done | unpack_students()


def unpack_students() -> dict[str, str]:
    """Put the students that ship where the experiment keeps its own, so that other students can start from them."""
    folder, done = stage_dir("experiment") / f"seed{SEED}", {}
    teacher = shipped_dit(TI2V)
    for steps, student in SHIPPED_STUDENTS.items():
        source, whole = student_file(steps), folder / f"{student.name}.safetensors"
        if whole.exists() or teacher is None or (weights := shipped_student(teacher, steps)) is None:
            continue
        folder.mkdir(parents=True, exist_ok=True)
        made_of = {SHIPPED: source, "weights": fingerprint(teacher)}
        lora = load_file(MODELS / source)
        save_model(lora, folder / f"{student.name}{LORA}", made_of)
        save_model(weights, whole, made_of)
        done[student.name] = source
    return done

"""Stage ``unpack``: put the weights that ship into an empty training cache, as if they had been trained there.

``export`` backwards: what is trained on top of them (data, students) then needs none of the hours before them.
"""

import shutil

from . import export
from .run import save_atomically, stage_dir
from .shipped import MODELS, shipped_vae_weights
from .taehv import narrow_network

FOLDERS = {"llava": export.LLAVA, "clip": export.CLIP}
DITS = {"t2v": export.T2V, "t2v_clips": export.T2V, "ti2v": export.TI2V}


def unpack() -> dict[str, str]:
    """Copy every shipped stage that the cache does not have, and say which were copied."""
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
    return done

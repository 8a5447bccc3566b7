"""The folder and the file of a run of Distill to Few Steps, and which run they belong to."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import folder_paths
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ...store.disk import DiskRefused, disk_errors
from ...store.files import make_subfolder, refuse_links_out, write_text
from ...store.names import name_fault
from ...training.checkpoint import RunFolder, fingerprint
from ...training.config import (
    GONE,
    MAY_CHANGE,
    SET_CONTENT,
    DistillConfig,
    check_same_run,
    current_names,
    first_names,
)
from ...training.source import VideoFolderSource
from ...window.entries import digest

RUNS_FOLDER = "magic141_distill"
SET_NOTE, ID_NOTE = "training_set.txt", "run_id.txt"
MOVED = (SET_NOTE, ID_NOTE, "config.json", "log.jsonl", "checkpoints", "samples")
RUN_FILES = (*MOVED, "lock")
RUN_KEY = "magic141_run"


def run_directory(run_name: str) -> Path:
    """Return the folder of a run.

    Raises:
        ValueError: the name is not usable.
    """
    if (problem := name_fault(run_name, "a run")) is not None:
        raise ValueError(problem)
    return Path(folder_paths.get_output_directory()) / RUNS_FOLDER / run_name.strip()


def check_run(run_dir: Path, config: DistillConfig, set_name: str) -> dict | None:
    """Refuse to continue a run of other settings or of another set.

    Returns:
        What the run was started with; None where it is a new one.
    Raises:
        ValueError: names what differs, what is damaged, or what in its folder leads elsewhere.
    """
    refuse_links_out(run_dir, RUN_FILES)
    if (saved := RunFolder(run_dir).read_config()) is None:
        return None
    wanted = asdict(config) | {"training_set": set_name}
    stored = current_names(saved) | {"training_set": read_note(run_dir, SET_NOTE) or set_name}
    compared = {name: stored[name] for name in {*wanted, *GONE} if name in stored}
    check_same_run(compared, wanted, f"{RUNS_FOLDER}/{run_dir.name}")
    return saved


def is_of_other_data(saved: Mapping[str, Any], source: VideoFolderSource) -> bool:
    """Say whether a run was started on other data; one of an older version only records how many clips it had."""
    now = {SET_CONTENT: source.content(), "clips": len(source)}
    return any(saved.get(name, value) != value for name, value in now.items())


def note_run(run_dir: Path, set_name: str, run_id: str) -> None:
    """Write a run's set and identity into its folder."""
    with disk_errors(run_dir):
        run_dir.mkdir(parents=True, exist_ok=True)
        write_text(run_dir / SET_NOTE, set_name)
        write_text(run_dir / ID_NOTE, run_id)


def read_note(run_dir: Path, name: str) -> str | None:
    """Return what ``note_run`` wrote under a name, or None if it wrote nothing."""
    path = run_dir / name
    return path.read_text("utf-8", "replace") if path.is_file() else None


def move_aside(run_dir: Path, target: Path, run_ids: set[str | None]) -> str:
    """Make room for a run on changed data, without losing anything of the earlier one.

    Args:
        target: the file of the run; it is moved if it was written by one of ``run_ids``.
    Returns:
        A sentence that says where the earlier run is.
    """
    number = 1
    while (run_dir / f"earlier {number}").exists() or _beside(target, number).exists():
        number += 1
    moved = f"output/{RUNS_FOLDER}/{run_dir.name}/earlier {number}"
    with disk_errors(run_dir):
        if target.exists() and _written_by(target) in run_ids:  # first: it may be in use
            _move_target(target, _beside(target, number))
            moved += f" and {_beside(target, number).name}"
        folder = make_subfolder(run_dir, f"earlier {number}")
        for name in MOVED:
            if (run_dir / name).exists():
                (run_dir / name).rename(folder / name)
    return f"The training set has changed since this run began, so it was trained anew. The earlier run is in {moved}."


def _move_target(target: Path, beside: Path) -> None:
    try:
        target.rename(beside)
    except PermissionError as error:  # of Windows
        raise DiskRefused(
            f"{target} of the earlier run is loaded or open, so it cannot be moved out of the way of the one on the "
            "changed training set. Unload the models in ComfyUI and queue again, or choose another run_name."
        ) from error


def _beside(target: Path, number: int) -> Path:
    return target.with_stem(f"{target.stem} earlier {number}")


def identity(
    config: DistillConfig,
    data: str,
    weights: Mapping[str, Tensor],
    start: Mapping[str, Tensor],
    *,
    older: bool = False,
) -> str:
    """Return a digest of everything that decides what a run learns; the run's file carries it.

    Args:
        data: what the training set holds, as a digest; older versions took the set's name.
        start: weights that the student starts with instead.
        older: return the identity that an older version gave, which had the settings of ``GONE`` as well.
    """
    named = first_names({**asdict(config), **(GONE if older else {})})
    settings = {k: v for k, v in named.items() if k not in MAY_CHANGE}
    started = [fingerprint(start)] if start else []
    return digest([settings, data, fingerprint(weights), *started])


def target_path(run_name: str, train: str) -> Path:
    """Return the file a run writes: a LoRA in models/loras, all weights in models/diffusion_models."""
    category = "loras" if train == "lora" else "diffusion_models"
    return Path(folder_paths.models_dir) / category / f"{run_name.strip()}.safetensors"


def check_target(path: Path, run_ids: set[str]) -> None:
    """Refuse to write over a file of others.

    Raises:
        ValueError: a file of this name is there, and none of these runs has written it.
    """
    if path.exists() and _written_by(path) not in run_ids:
        raise ValueError(
            f"models/{path.parent.name}/{path.name} is there already and comes from elsewhere. Choose another "
            "run_name, or move that file away."
        )


def _written_by(path: Path) -> str | None:
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get(RUN_KEY)
    except SafetensorError:
        return None

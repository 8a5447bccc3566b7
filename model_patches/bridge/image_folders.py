"""Which folders the image nodes may read, where indexes live, and where CLIP model folders are found."""

import os
from pathlib import Path

import folder_paths

from ..encoders.clip_embed import is_clip_folder
from .encoder_folders import encoder_folders

INDEX_CATEGORY = "magic141_image_index"
MAX_NAME_LENGTH = 100
FORBIDDEN_IN_NAME = set('<>:"/\\|?*')


def allowed_roots() -> dict[str, Path]:
    """Return the folders pictures may be read from: ComfyUI's own by name, registered ones by their full path."""
    roots = {
        "input": Path(folder_paths.get_input_directory()),
        "output": Path(folder_paths.get_output_directory()),
        "models": Path(folder_paths.models_dir),
    }
    for category, (paths, _) in folder_paths.folder_names_and_paths.items():
        if category != "custom_nodes":
            roots |= {Path(path).as_posix(): Path(path) for path in paths}
    return roots


def resolve_folder(name: str) -> Path:
    """Return the folder that a person named: "input/pets", "output", or the full path of a registered folder.

    Raises:
        ValueError: it lies outside what ComfyUI allows.
        FileNotFoundError: it is not there.
    """
    name = name.strip().strip('"').replace("\\", "/") or "input"
    roots = allowed_roots()
    first, _, rest = name.partition("/")
    path = roots[first] / rest if first in ("input", "output", "models") else Path(name)
    if not path.is_absolute():
        path = roots["input"] / name
    real = os.path.realpath(path)
    if not any(folder_paths.is_within_directory(str(root), real) for root in roots.values()):
        raise ValueError(
            f"The folder '{name}' is outside what ComfyUI may read. Use a folder inside input, output or models "
            "(for example 'input/pets'), or register yours in extra_model_paths.yaml."
        )
    if not Path(real).is_dir():
        raise FileNotFoundError(f"There is no folder '{name}'. Looked in {path}.")
    return Path(real)


def folder_label(folder: Path) -> str:
    """Return how an index remembers a folder: relative to ComfyUI's input, output or models where it is inside."""
    for name, root in allowed_roots().items():
        real = os.path.realpath(root)
        if name in ("input", "output", "models") and folder.is_relative_to(real):
            return "/".join([name, *folder.relative_to(real).parts])
    return folder.as_posix()


def check_index_name(name: str) -> str | None:
    """Return what is wrong with the name of an index, or None."""
    bad = FORBIDDEN_IN_NAME & set(name) or not name.strip() or name.startswith(".") or not name.isprintable()
    if bad or len(name) > MAX_NAME_LENGTH:
        return (
            f"'{name}' cannot be the name of an index: use letters, digits, spaces, '-' and '_', no folders."
        )
    return None


def index_directory(name: str) -> Path:
    """Return where the index of this name lives, or will live; users may redirect the category.

    Raises:
        ValueError: the name is not usable.
    """
    if problem := check_index_name(name):
        raise ValueError(problem)
    folder_paths.add_model_folder_path(INDEX_CATEGORY, str(Path(folder_paths.models_dir) / INDEX_CATEGORY))
    candidates = [Path(path) / name.strip() for path in folder_paths.get_folder_paths(INDEX_CATEGORY)]
    return next((path for path in candidates if path.is_dir()), candidates[0])


def clip_folders() -> dict[str, Path]:
    """Return the CLIP model folders (both towers, Hugging Face layout) by the name to show."""
    return {name: folder for name, folder in encoder_folders().items() if is_clip_folder(folder)}

"""The host's folders: which ones the pack may read, where its own data lies, and what it adds to them."""

import logging
import os
import shutil
from pathlib import Path

import folder_paths

from ..store.names import name_fault

INDEX_CATEGORY = "magic141_image_index"
EMBEDDED = Path(__file__).resolve().parents[2] / "embedded"
MODEL_FOLDERS = ("diffusion_models", "loras", "vae", "text_encoders")
EXAMPLE = EMBEDDED / "examples" / "magic141_example.png"
EXAMPLES_CATEGORY = "magic141_examples"  # Build Image Index can read "magic141_examples/gallery"
NO_MODELS = {".magic141"}  # matches no file: what lies in our folders is no entry of the host's model lists


def allowed_roots() -> dict[str, list[Path]]:
    """Return the folders pictures may be read from: ComfyUI's own and every registered category, by name."""
    roots = {
        "input": [Path(folder_paths.get_input_directory())],
        "output": [Path(folder_paths.get_output_directory())],
        "models": [Path(folder_paths.models_dir)],
    }
    for category, (paths, _) in folder_paths.folder_names_and_paths.items():
        if category not in ("custom_nodes", *roots):
            roots[category] = [Path(path) for path in paths]
    return roots


def resolve_folder(name: str) -> Path:
    """Return the folder that a person named: "input/pets", "output", "<registered name>/pets", or a full path.

    Raises:
        ValueError: it lies outside what ComfyUI allows.
        FileNotFoundError: it is not there.
    """
    name = name.strip().strip('"').replace("\\", "/") or "input"
    roots = allowed_roots()
    first, _, rest = name.partition("/")
    candidates = [root / rest for root in roots.get(first, [])] if first else []
    candidates.append(roots["input"][0] / name)  # a full path stays itself
    path = next((path for path in candidates if path.is_dir()), candidates[0])
    real = os.path.realpath(path)
    if not any(
        folder_paths.is_within_directory(str(root), real) for group in roots.values() for root in group
    ):
        raise ValueError(
            f"The folder '{name}' is outside what ComfyUI may read. Use a folder inside input, output or models "
            "(for example 'input/pets'), or register yours in extra_model_paths.yaml."
        )
    if not Path(real).is_dir():
        raise FileNotFoundError(f"There is no folder '{name}' in ComfyUI's input, output or models folder.")
    return Path(real)


def folder_label(folder: Path) -> str:
    """Return how an index remembers a folder: its root's name and the path below it, never a full path."""
    for name, group in allowed_roots().items():
        for root in group:
            real = os.path.realpath(root)
            if folder.is_relative_to(real):
                return "/".join([name, *folder.relative_to(real).parts])
    raise ValueError(f"{folder} is not inside a folder that ComfyUI may read.")


def index_directory(name: str) -> Path:
    """Return the folder of the index of this name, which may not exist yet.

    Raises:
        ValueError: the name is not usable.
    """
    return named_directory(name, INDEX_CATEGORY, "an index")


def named_directory(name: str, category: str, what: str) -> Path:
    """Return the folder of this name in one of our categories: under models/, unless the user has redirected it.

    Raises:
        ValueError: the name is not usable.
    """
    if problem := name_fault(name, what):
        raise ValueError(problem)
    default = str(Path(folder_paths.models_dir) / category)
    folder_paths.folder_names_and_paths.setdefault(category, ([default], NO_MODELS))
    candidates = [Path(path) / name for path in folder_paths.get_folder_paths(category)]
    return next((path for path in candidates if path.is_dir()), candidates[0])


def register_embedded_models(root: Path = EMBEDDED / "models") -> None:
    """Add the pack's model folders after the user's own, so that a user's file of the same name wins."""
    for folder in MODEL_FOLDERS:
        folder_paths.add_model_folder_path(folder, str(root / folder))
    folder_paths.folder_names_and_paths.setdefault(EXAMPLES_CATEGORY, ([str(EXAMPLE.parent)], NO_MODELS))


def offer_example_image(example: Path = EXAMPLE) -> None:
    """Copy the picture that the workflows start from into the input folder, once; a user's file stays as it is."""
    target = Path(folder_paths.get_input_directory()) / example.name
    if os.path.lexists(target):  # a link that leads nowhere would be written through
        return
    try:
        shutil.copyfile(example, target)
    except OSError as error:
        logging.warning("Magic141: the example picture could not be put into the input folder: %s", error)

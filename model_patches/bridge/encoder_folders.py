"""Find the Hugging Face folders an artist has among the host's model folders."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import folder_paths

CATEGORIES = ("text_encoders", "LLM", "clip_vision")  # "clip" is text_encoders' older name
MAX_DEPTH = 3


def roots() -> list[Path]:
    """Return the folders that are searched, the user's own first."""
    known = folder_paths.folder_names_and_paths
    paths = [
        path
        for category in CATEGORIES
        if category in known
        for path in folder_paths.get_folder_paths(category)
    ]
    paths.append(
        os.path.join(folder_paths.models_dir, "LLM")
    )  # other packs' custom; the host has no such category
    return [Path(path) for path in dict.fromkeys(paths) if os.path.isdir(path)]


def _model_folders(root: Path, depth: int = MAX_DEPTH) -> Iterator[Path]:
    for entry in sorted(os.scandir(root), key=lambda e: e.name):
        if not entry.is_dir() or entry.name.startswith("."):
            continue
        path = Path(entry.path)
        if (path / "config.json").is_file():
            yield path
        elif depth > 1:
            yield from _model_folders(path, depth - 1)


def encoder_folders() -> dict[str, Path]:
    """Return every folder with a ``config.json`` by its name under its root; the first of a name wins."""
    found: dict[str, Path] = {}
    for root in roots():
        for path in _model_folders(root):
            found.setdefault(path.relative_to(root).as_posix(), path)
    return found


def folder_choices(model_types: tuple[str, ...]) -> list[str]:
    """Return the names for a dropdown: folders of the given model types first, every other after them."""
    found = encoder_folders()
    return sorted(found, key=lambda name: (_model_type(found[name]) not in model_types, name.lower()))


def _model_type(folder: Path) -> str | None:
    try:
        return json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError):
        return None


def find_encoder_folder(name: str) -> Path:
    """Return the folder of a name from a dropdown.

    Raises:
        ValueError: it is gone; the message lists where folders are looked for.
    """
    found = encoder_folders()
    if name not in found:
        places = ", ".join(dict.fromkeys(root.name for root in roots()))
        raise ValueError(
            f"There is no model folder {name!r} under models/ ({places}). A folder counts when it holds a "
            "config.json; press R to refresh the list after copying one."
        )
    return found[name]

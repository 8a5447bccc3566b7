"""Find the artist's Hugging Face folders among the host's model folders."""

import functools
import itertools
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import folder_paths

from ...encoders.folders import read_config

CATEGORIES = ("text_encoders", "LLM", "clip_vision")  # "clip" is text_encoders' older name
MAX_DEPTH = 3


def roots() -> list[Path]:
    """Return the folders that are searched, the user's own first."""
    known = folder_paths.folder_names_and_paths
    groups = [folder_paths.get_folder_paths(category) for category in CATEGORIES if category in known]
    # other packs keep models here; the host has no such category
    others = os.path.join(folder_paths.models_dir, "LLM")
    paths = [*itertools.chain.from_iterable(groups), others]
    return [Path(path) for path in dict.fromkeys(paths) if os.path.isdir(path)]


@functools.cache
def log_skipped(path: str, reason: str) -> None:
    """Log once what a scan skips; scans run at import and must not fail."""
    logging.warning("Magic141: %r is skipped: %s", path, reason)


def _model_folders(root: Path, depth: int = MAX_DEPTH) -> Iterator[Path]:
    for path in _subfolders(root):
        try:
            holds_model = (path / "config.json").is_file()
        except OSError as error:
            log_skipped(str(path), error.strerror or str(error))
            continue
        if holds_model:
            yield path
        elif depth > 1:
            yield from _model_folders(path, depth - 1)


def _subfolders(folder: Path) -> list[Path]:
    """Return a folder's subfolders by name, without hidden or unreadable ones and links to a folder above."""
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        log_skipped(str(folder), error.strerror or str(error))
        return []
    return [Path(entry.path) for entry in entries if not entry.name.startswith(".") and _is_folder(entry)]


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        if not entry.is_dir():
            return False
        entry.name.encode()
    except OSError as error:
        log_skipped(entry.path, error.strerror or str(error))
        return False
    except UnicodeEncodeError:
        log_skipped(entry.path, "its name is not UTF-8")
        return False
    parent = Path(os.path.realpath(os.path.dirname(entry.path)))
    return not entry.is_symlink() or not parent.is_relative_to(os.path.realpath(entry.path))


def encoder_folders() -> dict[str, Path]:
    """Return every folder with a ``config.json`` by its name under its root; the first of a name wins."""
    found: dict[str, Path] = {}
    for root in roots():
        for path in _model_folders(root):
            found.setdefault(path.relative_to(root).as_posix(), path)
    return found


def folder_choices(model_types: tuple[str, ...]) -> list[str]:
    """Return the folder names for a dropdown: those of the given model types first, then all others.

    A folder whose ``config.json`` cannot be read is left out.
    """
    types: dict[str, Any] = {}
    for name, folder in encoder_folders().items():
        try:
            types[name] = read_config(folder).get("model_type")
        except ValueError as error:
            log_skipped(str(folder), str(error))
    return sorted(types, key=lambda name: (types[name] not in model_types, name.lower()))


def model_files(category: str) -> list[str]:
    """Return the files of one of the host's categories for a dropdown; none if the host cannot list them."""
    try:
        return folder_paths.get_filename_list(category)
    except OSError as error:
        log_skipped(f"models/{category}", str(error))
        return []


def find_encoder_folder(name: str) -> Path:
    """Return the folder with a name from a dropdown.

    Raises:
        ValueError: it is gone; the message says where folders are searched.
    """
    found = encoder_folders()
    if name not in found:
        places = ", ".join(dict.fromkeys(root.name for root in roots()))
        raise ValueError(
            f"There is no model folder {name!r} under models/ ({places}). A folder counts when it holds a "
            "config.json; press R to refresh the list after copying one."
        )
    return found[name]

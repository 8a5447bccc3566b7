"""Read the pictures that windows end on, which the prompts box names in the host's input folder."""

import os
from collections.abc import Mapping
from pathlib import Path

import folder_paths
from torch import Tensor

from ...store.files import path_inside
from ...store.pictures import PictureError, decode, read_bytes, to_tensor
from ...window.directions import Directions
from ..fingerprint import tensor_fingerprint


def find_end_images(directions: Directions) -> dict[int, Path]:
    """Return the path of each end picture, by the index of its window.

    Raises:
        ValueError: one is not in the input folder.
    """
    return {index: _find(name, directions.lines[index, "end"]) for index, name in directions.ends.items()}


def _find(name: str, line: int) -> Path:
    folder = Path(folder_paths.get_input_directory())
    try:
        path = path_inside(folder, name)
    except ValueError:
        path = None
    if path is None or not os.path.isfile(path):
        raise ValueError(
            f"Prompt line {line} names the picture {name[:200]!r}, which is not in ComfyUI's input folder. Upload it, "
            "or write the name of one that is there, subfolders with /."
        )
    return path


def read_end_images(directions: Directions) -> dict[int, Tensor]:
    """Return each end picture (1, H, W, 3), by the index of its window.

    Raises:
        ValueError: one is missing or no picture.
    """
    return {index: _read(path, directions, index) for index, path in find_end_images(directions).items()}


def _read(path: Path, directions: Directions, index: int) -> Tensor:
    try:
        return to_tensor(decode(read_bytes(path))[0])
    except PictureError as error:
        line, name = directions.lines[index, "end"], directions.ends[index]
        raise ValueError(
            f"Prompt line {line} names the picture {name[:200]!r}, which cannot be used: {error}. Choose another."
        ) from error


def fingerprints(images: Mapping[int, Tensor]) -> dict[int, str]:
    """Return a hash of each picture's content."""
    return {index: tensor_fingerprint(image) for index, image in images.items()}

"""Find the model files that measures need, and read them."""

from pathlib import Path

import comfy.utils
import folder_paths
from torch import Tensor

from ...judge.catalog import MODEL_FILES
from ...store.library_errors import library_errors
from ..encoders.folders import encoder_folders
from ..folders import NO_MODELS

CATEGORY = "magic141_clip_quality"
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
"""In order of preference."""


def roots() -> list[Path]:
    """Return the folders that hold these models, by default models/magic141_clip_quality."""
    default = str(Path(folder_paths.models_dir) / CATEGORY)
    folder_paths.folder_names_and_paths.setdefault(CATEGORY, ([default], NO_MODELS))
    return [Path(path) for path in folder_paths.get_folder_paths(CATEGORY)]


def find_model(name: str) -> Path:
    """Return the file or folder of a model of the catalog.

    Raises:
        FileNotFoundError: says what to download, and where to put it.
    """
    wanted = MODEL_FILES[name]
    paths = [path for root in roots() if root.is_dir() for path in sorted(root.iterdir())]
    if wanted.is_folder:
        paths = [path for path in [*paths, *encoder_folders().values()] if (path / "config.json").is_file()]
    else:
        paths = sorted(
            (path for path in paths if path.suffix.lower() in SUFFIXES and path.is_file()),
            key=lambda path: SUFFIXES.index(path.suffix.lower()),
        )
    matching = [path for path in paths if path.name.lower().startswith(wanted.begins)]
    if not matching:
        kind = "the folder " if wanted.is_folder else ""
        raise FileNotFoundError(f"Put {kind}{wanted.name} ({wanted.source}) into models/{CATEGORY}.")
    return matching[0]


def read_weights(name: str) -> dict[str, Tensor]:
    """Return the weights in the file of a model of the catalog; nothing in it is executed.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it cannot be read.
    """
    path = find_model(name)
    with library_errors(path.name):
        weights = comfy.utils.load_torch_file(str(path), safe_load=True)
        if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
            raise ValueError("it holds something other than named weights")
        return weights

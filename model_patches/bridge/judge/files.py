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
    """Return the folders for these models, by default models/magic141_clip_quality."""
    default = str(Path(folder_paths.models_dir) / CATEGORY)
    folder_paths.folder_names_and_paths.setdefault(CATEGORY, ([default], NO_MODELS))
    return [Path(path) for path in folder_paths.get_folder_paths(CATEGORY)]


def find(need: str) -> Path:
    """Return the file or folder behind a need of the catalog.

    Raises:
        FileNotFoundError: says what to download, and where to put it.
    """
    wanted = MODEL_FILES[need]
    found = [path for root in roots() if root.is_dir() for path in sorted(root.iterdir())]
    if wanted.is_folder:
        found = [path for path in [*found, *encoder_folders().values()] if (path / "config.json").is_file()]
    else:
        found = sorted(
            (path for path in found if path.suffix.lower() in SUFFIXES and path.is_file()),
            key=lambda path: SUFFIXES.index(path.suffix.lower()),
        )
    fitting = [path for path in found if path.name.lower().startswith(wanted.begins)]
    if not fitting:
        kind = "the folder " if wanted.is_folder else ""
        raise FileNotFoundError(f"Put {kind}{wanted.name} ({wanted.source}) into models/{CATEGORY}.")
    return fitting[0]


def read_weights(need: str) -> dict[str, Tensor]:
    """Return the weights of a file; nothing in it is executed.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it cannot be read.
    """
    path = find(need)
    with library_errors(path.name):
        weights = comfy.utils.load_torch_file(str(path), safe_load=True)
        if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
            raise ValueError("it holds no plain list of weights")
        return weights

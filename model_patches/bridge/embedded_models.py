"""Show what ships inside the pack in the host's own dropdowns: the embedded models and the example picture."""

import logging
import os
import shutil
from pathlib import Path

import folder_paths

from .folders import NO_MODELS

EMBEDDED = Path(__file__).resolve().parents[2] / "embedded"
MODEL_FOLDERS = ("diffusion_models", "loras", "vae", "text_encoders")
EXAMPLE = EMBEDDED / "examples" / "magic141_example.png"

EXAMPLES_CATEGORY = "magic141_examples"  # Build Image Index can read "magic141_examples/gallery"


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

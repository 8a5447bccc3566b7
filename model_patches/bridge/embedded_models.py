"""Show the models that ship inside the pack in the host's own dropdowns."""

from pathlib import Path

import folder_paths

EMBEDDED_MODELS = Path(__file__).resolve().parents[2] / "embedded" / "models"
FOLDERS = ("diffusion_models", "vae", "text_encoders")


def register_embedded_models(root: Path = EMBEDDED_MODELS) -> None:
    """Add the pack's model folders after the user's own, so that a user's file of the same name wins."""
    for folder in FOLDERS:
        folder_paths.add_model_folder_path(folder, str(root / folder))

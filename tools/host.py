"""Put the pinned ComfyUI (or the one named by COMFYUI_PATH) on ``sys.path`` of a test process."""

import os
import sys
from pathlib import Path

COMFYUI_VERSION = "0.30.0"


def cache_dir() -> Path:
    """Return the user cache folder for downloads and trainings."""
    if override := os.environ.get("MAGIC141_CACHE"):
        return Path(override)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return base / "magic141"


def comfyui_path() -> Path:
    """Return the ComfyUI checkout to use.

    Raises:
        FileNotFoundError: no checkout is there; ``python3 dev.py setup`` provides one.
    """
    path = Path(os.environ.get("COMFYUI_PATH") or cache_dir() / f"comfyui-{COMFYUI_VERSION}")
    if not (path / "main.py").is_file():
        raise FileNotFoundError(
            f"No ComfyUI in {path}. Run `python3 dev.py setup`, or set COMFYUI_PATH to a checkout."
        )
    return path


def use_comfyui(*extra_args: str, cpu: bool = True) -> Path:
    """Make ``import comfy`` work in this process, with PyTorch attention; may be called again.

    Args:
        extra_args: further command-line flags of ComfyUI.
        cpu: stay off the GPU.
    """
    path = comfyui_path()
    if str(path) not in sys.path:
        sys.path.insert(0, str(path))
    if "comfy.cli_args" not in sys.modules:
        device = ["--cpu"] if cpu else []
        arguments = sys.argv
        sys.argv = [str(path / "main.py"), *device, "--use-pytorch-cross-attention", *extra_args]
        try:
            import comfy.options  # pyright: ignore[reportMissingImports]

            comfy.options.enable_args_parsing()
            import comfy.cli_args  # pyright: ignore[reportMissingImports]
        finally:
            sys.argv = arguments
    return path

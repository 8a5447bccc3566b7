"""What ComfyUI-Manager does with a pack from the registry: install and update it, and install its requirements.

Source: comfyui-manager 4.3, ``glob/manager_core.py`` (``_cnr_install``, ``_cnr_switch_version_instant``,
``is_blacklisted``, ``is_installed``) and ``prestartup_script.py`` (the two lists).
"""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

NEVER_INSTALLED = {"torch", "torchaudio", "torchsde", "torchvision"}
NEVER_MOVED_DOWN = NEVER_INSTALLED | {"transformers", "safetensors", "kornia"}
TRACKING = ".tracking"


def pack_zip(checkout: Path, scratch: Path) -> Path:
    """Return the zip that ``comfy node pack`` makes of what git tracks in a checkout, which is left as it is."""
    copy = scratch / "checkout"
    for name in git(checkout, "ls-files", "-z").split("\0"):
        if (checkout / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(checkout / name, copy / name)
    git(copy, "init", "--quiet")
    git(copy, "add", "--all", "--force")
    comfy(copy, "node", "pack")
    return copy / "node.zip"


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip("\0")


def comfy(folder: Path, *arguments: str) -> str:
    """Run comfy-cli in a folder without questions or telemetry; return what it says.

    Raises:
        RuntimeError: it failed; the text is its output.
    """
    command = [sys.executable, "-P", "-m", "comfy_cli", "--skip-prompt", *arguments]
    variables = {**os.environ, "DO_NOT_TRACK": "1"}
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"comfy {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def install(archive: Path, custom_nodes: Path, node_id: str) -> Path:
    """Unpack the registry's zip into a new folder and note which files came from it."""
    folder = custom_nodes / node_id
    folder.mkdir(parents=True)
    note(folder, extract(archive, folder))
    return folder


def update(archive: Path, folder: Path) -> None:
    """Unpack a newer zip over an installed pack; remove files that only the older zip had, and keep the user's own."""
    names = extract(archive, folder)
    gone = set((folder / TRACKING).read_text(encoding="utf-8").split("\n")) - set(names)
    for name in gone:
        if (folder / name).is_file():
            (folder / name).unlink()
    for name in gone:
        if (folder / name).is_dir() and not any((folder / name).iterdir()):
            (folder / name).rmdir()
    note(folder, names)


def extract(archive: Path, folder: Path) -> list[str]:
    with zipfile.ZipFile(archive) as zipped:
        zipped.extractall(folder)
        return zipped.namelist()


def note(folder: Path, names: list[str]) -> None:
    (folder / TRACKING).write_text("\n".join(names), encoding="utf-8")


def requirements(path: Path) -> list[Requirement]:
    """Return the lines of a requirements file."""
    lines = (line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line]


def would_install(requirement: Requirement) -> bool:
    """Say whether the Manager would call pip for one line in this environment."""
    name = requirement.name.lower()
    if name in NEVER_INSTALLED:
        return False
    try:
        installed = Version(importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return True
    return not requirement.specifier.contains(installed, prereleases=True)

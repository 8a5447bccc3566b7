#!/usr/bin/env python3
"""Everything a developer runs: ``python3 dev.py setup | serve | demo | test | bench | table | train | remake``.

Standard library only. Every command first makes sure of the development environment: a virtual
environment with the pinned requirements and a ComfyUI, both kept in the user's cache folder.
"""

import argparse
import ast
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "tests" / "shim"))

from magic141.tools.environment import (  # noqa: E402
    SetupError,
    ensure_all,
    environment_dir,
    environment_python,
    say,
)

REMAKES = {
    "help": "help_pages",
    "locales": "locales",
    "thumbnails": "thumbnails",
    "layout": "layout",
    "pictures": "node_pictures",
    "cards_picture": "cards_picture",
    "moving_picture": "moving_picture",
    "figures": "figures",
    "host_names": "host_names",
}
BENCHES = ROOT / "tests" / "bench"
TESTS = ("tests/unit", "tests/parity", "tests/server", "tests/browser")
"""The folders of tests, which run side by side: two compute, and two wait for servers and a browser."""
REMAKERS = ROOT / "tools"


# --- running inside the environment ----------------------------------------------------------------------


def run(python: Path, *arguments: str, folder: Path | None = None, paths: tuple[str, ...] = ()) -> int:
    """Run ``python arguments`` with the package ``magic141`` importable, in a folder (by default the caller's).

    Args:
        paths: more folders to import from.

    Returns:
        The exit status.
    """
    return run_together(python, [arguments], folder=folder, paths=paths)[0]


def run_together(
    python: Path, commands: list[tuple[str, ...]], *, folder: Path | None = None, paths: tuple[str, ...] = ()
) -> list[int]:
    """Run commands side by side, as ``run`` does; the first prints at once, the others when they are done."""
    importable = [str(ROOT / "tests" / "shim"), *paths, os.environ.get("PYTHONPATH", "")]
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, importable)), "PYTHONUTF8": "1"}
    # if it were set, every ComfyUI would compile torch and other packages again, which takes 10 s
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    if len(commands) > 1:
        variables.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // len(commands))))
    pending: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: pending.append(number))  # kept until there are children
    with contextlib.ExitStack() as files:
        kept = [files.enter_context(tempfile.TemporaryFile()) for _ in commands[1:]]
        processes = [
            # -P: the checkout itself must stay off sys.path, where its nodes/ would hide ComfyUI's nodes.py.
            subprocess.Popen(
                [str(python), "-P", *arguments], cwd=folder, env=variables, stdout=file, stderr=file
            )
            for arguments, file in zip(commands, [None, *kept], strict=True)
        ]
        signal.signal(signal.SIGTERM, lambda *_: terminate(processes))  # so that the children can clean up
        if pending:
            terminate(processes)
        statuses = [wait_for(process) for process in processes]
        for file in kept:
            file.seek(0)
            print(file.read().decode(errors="replace"), end="", flush=True)
    return statuses


def terminate(processes: list[subprocess.Popen]) -> None:
    for process in processes:
        process.terminate()


def wait_for(process: subprocess.Popen) -> int:
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
    statuses = run_together(python, [("-m", "pytest", room) for room in TESTS], folder=ROOT)
    for check in failed:
        print(f"[dev] FAILED before the tests: {check}", file=sys.stderr)
    return max(statuses, key=abs) or len(failed)


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


def command_table(arguments: list[str]) -> int:
    """Print the paper's Table 1 over folders of clips."""
    return module(ensure_all(), "tools.paper_table", *arguments)


def first_line_of_docstring(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]


COMMANDS = {
    "setup": (command_setup, "make the environment and fetch ComfyUI, if they are missing"),
    "serve": (command_serve, "run a ComfyUI with this pack until Ctrl-C [--port N]"),
    "demo": (command_demo, "make a video with a real ComfyUI [--out DIR]"),
    "test": (command_test, "run lint, types and all tests; with arguments, only pytest"),
    "bench": (command_bench, "list the benchmarks, or run one: NAME --json FILE [--quick]"),
    "table": (command_table, "the paper's Table 1 over folders of clips: RESULTS.jsonl NAME=FOLDER ..."),
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

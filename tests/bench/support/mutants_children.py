"""Run tests in forked children of one warm process, on a copy of the repository that faults can be put into."""

import importlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path

from magic141.tools.imports import ROOT

DATA_BYTES = 8 * 1024**3
"""What a child may take: a fault may ask for any amount."""
TIMEOUT = -1
"""What a child that was stopped returns."""


class Copy:
    """A copy of the working tree, without what git ignores.

    Args:
        folder: where to; everything of the copy lies inside.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.root = folder, folder / "magic141"
        command = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
        names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
        for name in filter(None, names.split("\0")):
            if (ROOT / name).is_file():
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, self.root / name)
        subprocess.run([sys.executable, "-m", "compileall", "-q", str(self.root)], check=False)

    @contextmanager
    def fault(self, file: str, source: str):
        """Put another source in a file's place for a while; no compiled file of it may be left."""
        path = self.root / file
        before = path.read_text(encoding="utf-8")
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
            compiled.unlink()
        path.write_text(source, encoding="utf-8")
        try:
            yield
        finally:
            path.write_text(before, encoding="utf-8")

    def child(self, work: Callable[[], int], *, cpu_s: int, wall_s: float) -> int:
        """Run work in a forked child that imports this copy.

        Returns:
            What ``work`` returned, or ``TIMEOUT``.
        """
        process = os.fork()
        if process == 0:
            self._be_child(work, cpu_s)
        deadline = time.monotonic() + wall_s
        while time.monotonic() < deadline:
            done, status = os.waitpid(process, os.WNOHANG)
            if done:
                with suppress(ProcessLookupError):
                    os.killpg(process, signal.SIGKILL)  # what it may have started
                return _outcome(status)
            time.sleep(0.01)
        with suppress(ProcessLookupError):
            os.killpg(process, signal.SIGKILL)
        os.waitpid(process, 0)
        return TIMEOUT

    def _be_child(self, work: Callable[[], int], cpu_s: int) -> None:
        code = 99
        try:
            os.setsid()
            log = os.open(self.folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            null = os.open(os.devnull, os.O_RDONLY)
            for number, file in ((0, null), (1, log), (2, log)):
                os.dup2(file, number)
            resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 5))
            resource.setrlimit(resource.RLIMIT_DATA, (DATA_BYTES, DATA_BYTES))
            os.chdir(self.root)
            self._import_from_here()
            code = work()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)

    def _import_from_here(self) -> None:
        shim, ours = str(self.root / "tests/shim"), str(ROOT / "tests/shim")
        sys.path[:] = [
            shim if os.path.realpath(path) == os.path.realpath(ours) else path for path in sys.path
        ]
        os.environ["PYTHONPATH"] = os.environ.get("PYTHONPATH", "").replace(ours, shim)
        sys.dont_write_bytecode = True  # two sources written within a second would share it
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        for name in [name for name in sys.modules if name.partition(".")[0] == "magic141"]:
            del sys.modules[name]
        importlib.invalidate_caches()

    def log_tail(self) -> str:
        """Return the end of what the last child printed."""
        return (self.folder / "log.txt").read_text(errors="replace")[-3000:]


def _outcome(status: int) -> int:
    if os.WIFSIGNALED(status):
        return TIMEOUT if os.WTERMSIG(status) == signal.SIGXCPU else 100 + os.WTERMSIG(status)
    return os.WEXITSTATUS(status)


def run_pytest(names: list[str], plugins: list | None = None, *, basetemp: Path) -> int:
    """Run tests in this process up to the first that fails; return pytest's exit status."""
    import pytest

    flags = ["-x", "-q", "-p", "no:cacheprovider", f"--basetemp={basetemp}"]
    return int(pytest.main([*flags, *names], plugins=plugins))


def warm_up(copy: Copy, test_files: list[str]) -> None:
    """Import into this process whatever the tests import, except what is ours."""
    from magic141.tools.host import use_comfyui

    use_comfyui()
    found = copy.folder / "modules.json"

    def write_modules() -> int:
        before = set(sys.modules)
        status = run_pytest(["--collect-only", *test_files], basetemp=copy.folder / "tmp")
        names = [name for name in sys.modules if name not in before and _is_of_others(name, copy.root)]
        found.write_text(json.dumps(names))
        return status

    if status := copy.child(write_modules, cpu_s=600, wall_s=1200):
        raise RuntimeError(f"The tests cannot be collected ({status}): {copy.log_tail()}")
    for name in json.loads(found.read_text()):
        with suppress(Exception):  # made by others at run time, such as torch.ops
            importlib.import_module(name)


def _is_of_others(name: str, root: Path) -> bool:
    spec = getattr(sys.modules[name], "__spec__", None)
    return spec is not None and spec.name == name and not str(spec.origin).startswith(str(root))

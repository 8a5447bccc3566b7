"""Start the real ComfyUI with this pack and without a browser, and always end it.

As a program: ``python -m magic141.tools.server [--port N] [--base DIR]`` serves until Ctrl-C.
"""

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from .host import comfyui_path

PACK = Path(__file__).resolve().parents[1]
FLAGS = (
    "--cpu",
    "--use-pytorch-cross-attention",
    "--disable-auto-launch",
    "--disable-api-nodes",
    "--preview-method",
    "latent2rgb",
)
NEW_PROCESS_GROUP = 0x200  # of Windows
BOOT_SECONDS = 900  # a quiet machine takes 15, but a busy one must not fail


class ComfyServer:
    """A ComfyUI process on a free loopback port, with a base folder of its own.

    Use it as a context manager: the process and everything it started are gone afterwards.

    Args:
        base: folder for models, input, output and user files; made if missing.
        port: loopback port; 0 takes a free one.
        pack: folder to link into ``custom_nodes``.
        flags: further command-line flags of ComfyUI.
    """

    def __init__(self, base: Path, *, port: int = 0, pack: Path = PACK, flags: tuple[str, ...] = ()) -> None:
        self.base = Path(base).resolve()
        self.port = port or free_port()
        self.pack = pack
        self.flags = flags
        self.log = self.base / "server.log"
        self.process: subprocess.Popen | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> "ComfyServer":
        make_base_folder(self.base, self.pack)
        try:
            self._start()
            self._wait_until_it_answers()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self) -> None:
        host = comfyui_path()
        database = f"sqlite:///{(self.base / 'user' / 'comfyui.db').as_posix()}"
        command = [
            sys.executable,
            str(host / "main.py"),
            "--base-directory",
            str(self.base),
            "--port",
            str(self.port),
        ]
        command += ["--database-url", database, *FLAGS, *self.flags]
        variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=host,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                creationflags=NEW_PROCESS_GROUP if os.name == "nt" else 0,
                start_new_session=os.name != "nt",
            )

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + BOOT_SECONDS
        while not self.answers():
            if not self.alive():
                raise RuntimeError(f"ComfyUI ended while starting. The end of {self.log}:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"ComfyUI did not answer in {BOOT_SECONDS} s. The end of its log:\n{self.log_tail()}"
                )
            time.sleep(0.2)

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/system_stats", timeout=30) as reply:
                return reply.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def log_text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def log_tail(self) -> str:
        return "\n".join(self.log_text().splitlines()[-40:])

    def stop(self) -> None:
        """End the process and its children; safe to call twice."""
        process, self.process = self.process, None
        if process is None:
            return
        end_group(process, signal.SIGTERM)
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            pass
        finally:
            end_group(process, getattr(signal, "SIGKILL", signal.SIGTERM))
            process.wait(timeout=10)


def end_group(process: subprocess.Popen, number: int) -> None:
    """Signal the process and all its children."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if os.name == "nt":
            process.kill()
        else:
            os.killpg(process.pid, number)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def make_base_folder(base: Path, pack: Path) -> None:
    """Lay out ComfyUI's own folders in ``base`` and link the pack into ``custom_nodes``."""
    for folder in ("custom_nodes", "input", "output", "temp", "user", "models"):
        (base / folder).mkdir(parents=True, exist_ok=True)
    link_folder(base / "custom_nodes" / "magic141", pack)


def link_folder(link: Path, target: Path) -> None:
    """Make ``link`` point at ``target``: a symlink, or on Windows a junction, which needs no special rights."""
    if link.exists():
        return
    if os.name == "nt":
        import _winapi

        _winapi.CreateJunction(str(target), str(link))
    else:
        link.unlink(missing_ok=True)  # a link to a folder that is gone
        link.symlink_to(target, target_is_directory=True)


@contextlib.contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """Let SIGTERM and SIGINT unwind the stack, so that context managers clean up.

    A shell starts background jobs with SIGINT ignored, and Python by itself does not change that.
    """

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def temporary_server(**options) -> Iterator[ComfyServer]:
    """Run a server whose base folder is deleted in the end."""
    with (
        tempfile.TemporaryDirectory(prefix="magic141-", ignore_cleanup_errors=True) as base,
        terminate_as_interrupt(),
        ComfyServer(Path(base), **options) as server,
    ):
        yield server


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="dev.py serve", description="Serve ComfyUI with this pack until Ctrl-C."
    )
    parser.add_argument("--port", type=int, default=8188, help="loopback port (default 8188)")
    parser.add_argument(
        "--base", type=Path, help="keep models, input and output here (default: a temporary folder)"
    )
    options = parser.parse_args()
    base = options.base or Path(tempfile.mkdtemp(prefix="magic141-serve-"))
    with (
        contextlib.suppress(KeyboardInterrupt),
        terminate_as_interrupt(),
        ComfyServer(base, port=options.port) as server,
    ):
        print(f"ComfyUI with Magic141: {server.url}\nFiles: {base}\nPress Ctrl-C to stop.", flush=True)
        assert server.process is not None
        server.process.wait()


if __name__ == "__main__":
    main()

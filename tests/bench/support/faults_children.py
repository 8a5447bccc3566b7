"""Run a piece of work in a forked child of this warm process, and say how it ended."""

import errno
import faulthandler
import gc
import os
import pickle
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from magic141.tools.imports import ROOT

PATIENCE_S = 90.0
ANSWERS = ("fine", "said", "stopped")
"""What a fault may come to: the right result, a sentence for people, or a cancel that was heard."""


@dataclass(frozen=True)
class Outcome:
    """How a child ended.

    kind: one of ``ANSWERS``; "raw" (an error of a library or the system), "deadly" (no ``Exception``: it would end the
    host's worker), "died" (by a signal that was not ours), "killed" (by us), "hang". at: ``time.monotonic`` of the end.
    """

    kind: str
    text: str = ""
    value: Any = None
    seconds: float = 0.0
    at: float = 0.0


class Child:
    """A forked child that works; ask ``outcome`` in the end."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._read, write = os.pipe()
        self._stacks = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115  closed with the outcome
        self.started = time.monotonic()
        self.pid = os.fork()
        if not self.pid:
            os.close(self._read)
            faulthandler.register(signal.SIGUSR1, file=self._stacks)
            _work_and_leave(work, write)
        os.close(write)

    def kill(self) -> None:
        """End it as a power cut would."""
        os.kill(self.pid, signal.SIGKILL)

    def ends_within(self, seconds: float) -> bool:
        """Wait for its end."""
        return bool(select.select([self._read], [], [], max(0.0, seconds))[0])

    def _where(self) -> str:
        """Return where each thread of a child that hangs is: its innermost calls."""
        os.kill(self.pid, signal.SIGUSR1)
        time.sleep(1)
        self._stacks.seek(0)
        lines = [line.strip() for line in self._stacks.read().splitlines() if line.strip()]
        return " | ".join(lines[:12])

    def outcome(self, *, patience_s: float = PATIENCE_S) -> Outcome:
        """Return how it ended; one that does not end is killed."""
        hangs = not self.ends_within(patience_s)
        where = self._where() if hangs else ""
        self._stacks.close()
        if hangs:
            self.kill()
        with os.fdopen(self._read, "rb") as pipe:
            data = pipe.read()
        _, status = os.waitpid(self.pid, 0)
        took = time.monotonic() - self.started
        if hangs:
            return Outcome("hang", where, seconds=took)
        if not data:
            number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
            kind = "killed" if number == signal.SIGKILL else "died"
            return Outcome(kind, f"signal {number}", seconds=took)
        return pickle.loads(data)


def _work_and_leave(work: Callable[[], Any], write: int) -> None:
    """Do the work, send how it ended, and leave without the parent's clean-up."""
    silence = os.open(os.devnull, os.O_RDWR)
    for descriptor in (1, 2):
        os.dup2(silence, descriptor)
    torch.set_num_threads(1)  # makes torch's pool anew, before threads of the work do so at the same time
    gc.freeze()  # or the collector copies every page of the parent
    started = time.monotonic()
    try:
        kind, text, value = "fine", "", work()
    except BaseException as error:
        kind, text, value = kind_of(error), describe(error), None
    now = time.monotonic()
    with os.fdopen(write, "wb") as pipe:
        pipe.write(pickle.dumps(Outcome(kind, text, value, now - started, now)))
    os._exit(0)


def kind_of(error: BaseException) -> str:
    """Say what an error is to the person before the screen.

    A sentence is a ``ValueError``, or an ``OSError`` without a number, that our own code raised.
    """
    if type(error).__name__ == "InterruptProcessingException":
        return "stopped"
    if not isinstance(error, Exception):
        return "deadly"
    is_sentence = isinstance(error, ValueError | ImportError) or (
        isinstance(error, OSError) and error.errno is None
    )
    frames = traceback.extract_tb(error.__traceback__)
    raised_in = Path(frames[-1].filename) if frames else Path()
    ours = raised_in.is_relative_to(ROOT) or raised_in.name == "folder_paths.py"  # the host's own sentences
    return "said" if is_sentence and ours else "raw"


def describe(error: BaseException) -> str:
    """Return an error with where it came from, for the harness's own report."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    places = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))
    name = errno.errorcode.get(getattr(error, "errno", None) or 0, "")
    return f"{type(error).__name__} {name} {str(error)[:300]} [{places}]"


def in_child(work: Callable[[], Any], *, patience_s: float = PATIENCE_S) -> Outcome:
    """Run work in a child to its end."""
    return Child(work).outcome(patience_s=patience_s)


def say(text: str) -> None:
    """Print a line of the harness's own report."""
    print(text, file=sys.stderr, flush=True)

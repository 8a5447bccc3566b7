"""Let the system refuse the nth thing that a node does with files: a full disk, missing rights, Windows' rules."""

import builtins
import errno
import io
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .faults_children import Outcome, in_child, say
from .faults_jobs import Job, Place, leftovers
from .faults_kills import Bench, judge

CODES = (errno.ENOSPC, errno.EACCES, errno.EIO, errno.EINVAL)
CALLS = (
    "open",
    "replace",
    "rename",
    "unlink",
    "remove",
    "mkdir",
    "rmdir",
    "fsync",
    "scandir",
    "listdir",
    "truncate",
)
SCANNED_S = 0.12
"""How long a virus scanner holds a fresh file."""


class Refusals:
    """What the system answers from now on, in this process, for paths below a folder.

    Args:
        folder: other paths are left alone.
        refuse: called with a call's name and its paths; returns an error to raise, or None.
    """

    def __init__(self, folder: Path, refuse: Callable[[str, list[str]], OSError | None]) -> None:
        self.folder, self.refuse = os.path.realpath(folder), refuse

    def ask(self, call: str, arguments: tuple[Any, ...]) -> None:
        """Raise if this call is to be refused."""
        paths = [path for path in map(self._path, arguments[:2]) if path]
        if paths and (error := self.refuse(call, paths)) is not None:
            error.filename = paths[0]
            raise error

    def _path(self, value: Any) -> str | None:
        if isinstance(value, bool) or not isinstance(value, str | os.PathLike | int):
            return None
        try:
            path = (
                os.readlink(f"/proc/self/fd/{value}")
                if isinstance(value, int)
                else os.path.abspath(os.fspath(value))
            )
        except OSError:
            return None
        return str(path) if str(path).startswith(self.folder) else None


class AskedFile:
    """A file for writing that asks before every write."""

    def __init__(self, file: Any, path: Any, refusals: Refusals) -> None:
        self._file, self._path, self._refusals = file, path, refusals

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> "AskedFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._file)

    def write(self, data: Any) -> int:
        self._refusals.ask("write", (self._path,))
        return self._file.write(data)


@contextmanager
def refused(refusals: Refusals) -> Iterator[None]:
    """Let Python's ways to files ask first; only in a child that ends after it."""
    real_open = io.open

    def asked_open(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        refusals.ask("open", (file,))
        opened = real_open(file, mode, *arguments, **options)
        writes = set(mode) & set("wax+") and refusals._path(file)
        return AskedFile(opened, file, refusals) if writes else opened

    builtins.open = io.open = asked_open  # type: ignore[assignment]
    for name in CALLS:
        setattr(os, name, _asked(getattr(os, name), name, refusals))
    yield


def _asked(function: Callable, name: str, refusals: Refusals) -> Callable:
    def asked(*arguments: Any, **options: Any) -> Any:
        refusals.ask(name, arguments)
        return function(*arguments, **options)

    return asked


def fail_disks(bench: Bench, *, count: int) -> None:
    """Let the nth call fail, with every code; then the next run must come to the undisturbed result."""
    totals = {job.name: _count_calls(bench, job) for job in bench.jobs}
    for number in range(count):
        job = bench.jobs[number % len(bench.jobs)]
        nth, code = bench.dice.randint(1, max(1, totals[job.name])), bench.dice.choice(CODES)
        lasting = bench.dice.random() < 0.3
        what = f"{job.name}: {errno.errorcode[code]} {'from' if lasting else 'at'} call {nth} of {totals[job.name]}"
        _fail(bench, job, what, lambda place, n=nth, c=code, on=lasting: _nth(place, n, c, on))
    say(f"disk faults: {bench.counts['disk_faults']}, file calls a job: {totals}")


def fill_disks(bench: Bench, *, count: int) -> None:
    """Let no file grow beyond a size, for every writer, libraries too."""
    for number in range(count):
        job = bench.jobs[number % len(bench.jobs)]
        limit = int(2 ** bench.dice.uniform(6, 21))
        _fail(
            bench,
            job,
            f"{job.name}: no file beyond {limit} bytes",
            lambda place, limit=limit: _small_files(limit),
        )


def keep_windows_rules(bench: Bench, *, count: int) -> None:
    """Hold files as Windows does: what is open, or held by another program or a scanner, is not replaced."""
    for number in range(count):
        job = bench.jobs[number % len(bench.jobs)]
        holder = bench.dice.choice(("nobody", "scanner", "player"))
        what = f"{job.name}: Windows, {holder}"
        _fail(
            bench, job, what, lambda place, holder=holder: _windows(place, holder), again=holder == "player"
        )


def _fail(
    bench: Bench, job: Job, what: str, refusing: Callable[[Place], Any], *, again: bool = False
) -> None:
    """Run a job in a place that refuses, judge what it says, and let the next run end.

    Args:
        again: begin with what a finished run left, whose files are then the ones that are held.
    """
    place = bench.place()
    if again:
        shutil.copytree(bench.root / "undisturbed" / job.name, place.case)
    place.case.mkdir(parents=True, exist_ok=True)

    def work() -> Any:
        place.enter()
        with refusing(place):
            return job.work(place)()

    outcome = in_child(work)
    bench.counts["disk_faults"] += 1
    bench.counts[f"disk_faults {outcome.kind}"] += 1
    judge(bench, outcome, what)
    _end(bench, job, place, what, outcome)
    shutil.rmtree(place.case, ignore_errors=True)


def _end(bench: Bench, job: Job, place: Place, what: str, first: Outcome) -> None:
    """Let the next run end: nothing may be half written, and no training lost."""
    before = job.items(place.case)
    outcome = in_child(job.work(place))
    name = "trainings_lost" if job.name == "distill" else "half_written"
    if outcome.kind != "fine":
        bench.fault(name, f"{what} ({first.text}): the next run says {outcome.kind} {outcome.text}")
        return
    made, wanted = bench.result(job, place), bench.wanted[job.name]
    if any(made.get(key) != value for key, value in wanted.items()):
        bench.fault(name, f"{what} ({first.text}): another result")
    if left := leftovers(place.case):
        bench.fault("leftover_files_after_next_run", f"{what}: {left}", len(left))
    bench.check_kept(job, place, what, before)


def _count_calls(bench: Bench, job: Job) -> int:
    place, calls = bench.place(), [0]

    def count(call: str, paths: list[str]) -> None:
        calls[0] += 1

    def work() -> int:
        place.enter()
        with refused(Refusals(place.case, count)):
            job.work(place)()
        return calls[0]

    outcome = in_child(work)
    shutil.rmtree(place.case, ignore_errors=True)
    if outcome.kind != "fine":
        raise RuntimeError(f"{job.name} fails while its file calls are counted: {outcome.text}")
    return outcome.value


def _nth(place: Place, nth: int, code: int, lasting: bool) -> Any:
    calls = [0]

    def refuse(call: str, paths: list[str]) -> OSError | None:
        calls[0] += 1
        hit = calls[0] >= nth if lasting else calls[0] == nth
        return OSError(code, os.strerror(code)) if hit else None

    return refused(Refusals(place.case, refuse))


@contextmanager
def _small_files(limit: int) -> Iterator[None]:
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    yield


def _windows(place: Place, holder: str) -> Any:
    """Return the rules: no replacing, renaming or deleting of what is open or mapped here, or held by others."""
    held = {str(path) for path in place.case.rglob("*") if path.suffix in (".mkv", ".safetensors", ".sqlite")}

    def refuse(call: str, paths: list[str]) -> OSError | None:
        if call not in ("replace", "rename", "unlink", "remove"):
            return None
        in_use = any(path in _open_here() for path in paths)
        if holder == "scanner":
            in_use |= any(_is_fresh(path) for path in paths)
        if holder == "player":
            in_use |= any(path in held for path in paths)
        return PermissionError(errno.EACCES, "The process cannot access the file") if in_use else None

    return refused(Refusals(place.case, refuse))


def _is_fresh(path: str) -> bool:
    return os.path.exists(path) and time.time() - os.stat(path).st_ctime < SCANNED_S


def _open_here() -> set[str]:
    """Return the files that this process has open or mapped."""
    found = set()
    for name in range(3, 256):
        try:
            found.add(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:
            continue
    with open("/proc/self/maps") as maps:
        found |= {line.split(maxsplit=5)[5].strip() for line in maps if len(line.split(maxsplit=5)) == 6}
    return found

"""Find which tests run which lines of our source, a test file at a time, unless nothing behind it changed."""

import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from magic141.tests.bench.support.mutants_children import Copy, run_pytest
from magic141.tools.imports import ROOT, files_behind

FILE_WIDE = ""
"""Stands for what runs before a test: imports, and fixtures that several tests share."""


class _Watcher:
    """A pytest plugin that tells coverage which test is running and keeps how long each took."""

    def __init__(self, measured) -> None:
        self.measured = measured
        self.seconds: dict[str, float] = {}
        self.failed: list[str] = []
        self.test = FILE_WIDE

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.test, start = item.nodeid, _processor_seconds()
        self.measured.switch_context(self.test)
        yield
        self.seconds[item.nodeid] = round(_processor_seconds() - start, 3)
        self.test = FILE_WIDE
        self.measured.switch_context(self.test)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_fixture_setup(self, fixturedef) -> Iterator[None]:
        if fixturedef.scope != "function":
            self.measured.switch_context(FILE_WIDE)
        yield
        self.measured.switch_context(self.test)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.append(report.nodeid)


def _processor_seconds() -> float:
    """Return what this process has taken, and the children that it has waited for."""
    return sum(os.times()[:4])


def _measure(copy: Copy, file: str, rooms: Sequence[str], out: Path) -> int:
    """Run a test file and write its tests' seconds and the lines that each ran."""
    import coverage

    sources = [str(copy.root / (room if room.endswith(".py") else f"{room}/**")) for room in rooms]
    measured = coverage.Coverage(data_file=None, include=sources, config_file=False)
    watcher = _Watcher(measured)
    measured.start()
    measured.switch_context(FILE_WIDE)
    status = run_pytest(["--maxfail=1000", file], [watcher], basetemp=copy.folder / "tmp")
    measured.stop()
    data = measured.get_data()
    lines = {
        str(Path(name).relative_to(copy.root)): data.contexts_by_lineno(name)
        for name in data.measured_files()
    }
    out.write_text(json.dumps({"seconds": watcher.seconds, "failed": watcher.failed, "lines": lines}))
    return 0 if status in (0, 1, 5) else status


def digest_behind(file: str) -> str:
    """Return a digest of a test file and all of ours that it imports, pytest's ``conftest.py`` files included."""
    path = ROOT / file
    above = [folder / "conftest.py" for folder in path.parents if folder.is_relative_to(ROOT)]
    behind = [each for one in (path, *filter(Path.is_file, above)) for each in files_behind(one)]
    digest = hashlib.sha256()
    for each in sorted(set(behind)):
        digest.update(each.relative_to(ROOT).as_posix().encode() + each.read_bytes())
    return digest.hexdigest()


class TestMap:
    """Which tests to run for a line.

    Args:
        copy: where the tests run.
        kept: a JSON file with what earlier runs found.
    """

    __test__ = False

    def __init__(self, copy: Copy, kept: Path) -> None:
        self.copy, self.kept = copy, kept
        self.files: dict[str, dict] = json.loads(kept.read_text()) if kept.is_file() else {}

    def measure(self, test_files: Sequence[str], rooms: Sequence[str]) -> None:
        """Run each test file that changed, or whose subject did, once under coverage."""
        self.files = {file: found for file, found in self.files.items() if file in test_files}
        digests = {file: digest_behind(file) for file in test_files}  # now: someone may go on working
        for file, digest in digests.items():
            if self.files.get(file, {}).get("digest") == digest:
                continue
            out, start = self.copy.folder / "lines.json", time.monotonic()
            out.unlink(missing_ok=True)
            work = lambda file=file, out=out: _measure(self.copy, file, rooms, out)  # noqa: E731
            if status := self.copy.child(work, cpu_s=1200, wall_s=2400):
                raise RuntimeError(f"{file} cannot be run ({status}): {self.copy.log_tail()}")
            self.files[file] = {"digest": digest, **json.loads(out.read_text())}
            self.kept.write_text(json.dumps(self.files))
            print(f"{file}: {time.monotonic() - start:.0f} s", flush=True)
        if failed := [test for found in self.files.values() for test in found["failed"]]:
            print(f"These fail without any fault and are left out: {failed}", flush=True)

    def tests_of(self, file: str, lines: range) -> list[str]:
        """Return the tests that run some lines, those that take the least time first.

        All tests of a file where imports or shared fixtures run it; where no process that was watched runs it, all
        tests of the files that import it: a child process of theirs may.
        """
        seconds: dict[str, float] = {}
        for found in self.files.values():
            seconds |= {test: found["seconds"][test] for test in self._tests_in(found, file, lines)}
        if not seconds:
            behind = [found for found in self.files.values() if file in found["lines"]]
            seconds = {test: found["seconds"][test] for found in behind for test in _sound(found)}
        return sorted(seconds, key=seconds.__getitem__)

    def _tests_in(self, found: dict, file: str, lines: range) -> list[str]:
        by_line = found["lines"].get(file, {})
        contexts = {test for line in lines for test in by_line.get(str(line), ())}
        return [test for test in _sound(found) if FILE_WIDE in contexts or test in contexts]

    def seconds_of(self, tests: Sequence[str]) -> float:
        return sum(self.files[test.partition("::")[0]]["seconds"][test] for test in tests)

    def digest_of(self, tests: Sequence[str]) -> str:
        """Return what says that the same tests would be run again."""
        files = sorted({test.partition("::")[0] for test in tests})
        told = [[file, self.files[file]["digest"]] for file in files]
        return hashlib.sha256(json.dumps([told, list(tests)]).encode()).hexdigest()


def _sound(found: dict) -> list[str]:
    """Return a file's tests that pass without any fault."""
    return [test for test in found["seconds"] if test not in found["failed"]]

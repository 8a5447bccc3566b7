"""Mutants: small faults in sampler, channels, long videos, measures, int8 and training, and which tests notice.

Lines are drawn from a seed, in every room by its size, and mutmut makes a fault in each. A fault is tried with the
unit and parity tests that run its line; tests that start a server are left out, so the share is a lower bound. A fault
that makes the tests run for too long counts as noticed. ``mutants_killed_share`` is noticed / tried, with nothing taken
off; ``mutants_killed_share_of_visible`` leaves out those that ``mutants_equivalent.json`` proves to change nothing that
can be seen. Run again with the same files, it goes on where it stopped. Linux only: it forks.
"""

import argparse
import json
import os
import random
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from magic141.tests.bench.support.mutants_children import TIMEOUT, Copy, run_pytest, warm_up
from magic141.tests.bench.support.mutants_make import (
    MutableFile,
    Mutant,
    draw_mutants,
    line_counts,
    share_out,
)
from magic141.tests.bench.support.mutants_tests import TestMap
from magic141.tools.imports import ROOT

ROOMS = {
    "sampler": "model_patches/sampler.py",
    "channels": "model_patches/dit/channels.py",
    "window": "model_patches/window",
    "measures": "model_patches/measures.py",
    "int8": "model_patches/int8",
    "training": "model_patches/training",
}
TESTS = (
    "tests/unit/test_sampler.py",
    "tests/unit/test_measures*.py",
    "tests/parity/test_*.py",
    *(
        f"tests/{kind}/{room}/test_*.py"
        for kind in ("unit", "parity")
        for room in ("dit", "int8", "training", "window")
    ),
)
EQUIVALENT = Path(__file__).with_name("support") / "mutants_equivalent.json"
LEAST = 10
"""Mutants of a room, however small it is."""
CONTROLS = 10
"""Drawn mutants whose tests are also run without a fault: none of them may fail."""
MOST_TEST_SECONDS = 60.0
"""Of the tests that run a line, the quick ones that take no longer than this together are run."""
KILLED_BY_PYTEST = (1, 2, 3, 4)
"""pytest's exit status where a test failed, or where the fault does not even let the tests be imported."""


@dataclass
class Bench:
    """What all mutants are tried with."""

    copy: Copy
    tests: TestMap
    most_seconds: float = MOST_TEST_SECONDS

    def try_mutant(self, mutant: Mutant) -> dict:
        """Return the row of one mutant."""
        names = self._tests_of(mutant)
        start = time.monotonic()
        with self.copy.fault(mutant.file, mutant.source):
            outcome = self._run(names) if names else 0
        return {
            "file": mutant.file,
            "line": mutant.line,
            "before": mutant.before,
            "after": mutant.after,
            "killed": outcome != 0,
            "timeout": outcome == TIMEOUT,
            "tests": len(names),
            "made_by": self.digest(mutant),
            "seconds": round(time.monotonic() - start, 1),
        }

    def control_fails(self, mutant: Mutant) -> bool:
        """Tell whether the tests of a mutant fail without it."""
        names = self._tests_of(mutant)
        return bool(names) and self._run(names) != 0

    def digest(self, mutant: Mutant) -> str:
        """Return what says that trying it again gives the same."""
        return self.tests.digest_of(self._tests_of(mutant))

    def _tests_of(self, mutant: Mutant) -> list[str]:
        names = self.tests.tests_of(mutant.file, mutant.lines)
        while names and self.tests.seconds_of(names) > self.most_seconds:
            names.pop()
        return names

    def _run(self, names: list[str]) -> int:
        """Run tests; return 0 where all pass."""
        expected = self.tests.seconds_of(names)
        basetemp = self.copy.folder / "tmp"
        outcome = self.copy.child(
            lambda: run_pytest(names, basetemp=basetemp),
            cpu_s=30 + int(4 * expected),
            wall_s=180 + 12 * expected,
        )
        if outcome in (0, TIMEOUT, *KILLED_BY_PYTEST) or outcome > 100:  # a signal: it crashed
            return outcome
        raise RuntimeError(f"pytest ended with {outcome}: {self.copy.log_tail()}")


def mutable_files() -> dict[str, list[MutableFile]]:
    """Return the source files of every room."""
    found = {}
    for room, place in ROOMS.items():
        path = ROOT / place
        files = [path] if path.is_file() else sorted(path.rglob("*.py"))
        found[room] = [MutableFile(ROOT, file.relative_to(ROOT).as_posix()) for file in files]
    return found


def test_files() -> list[str]:
    """Return the test files that are run."""
    return sorted(path.relative_to(ROOT).as_posix() for glob in TESTS for path in ROOT.glob(glob))


def figures_of(rows: Sequence[Mapping], reasons: Mapping[str, str]) -> dict[str, float]:
    """Return the figures of rows, altogether and room by room."""
    killed = sum(row["killed"] for row in rows)
    equivalent = sum(not row["killed"] and key_of(row) in reasons for row in rows)
    figures = {
        "mutants_tried": float(len(rows)),
        "mutants_killed": float(killed),
        "mutants_killed_share": killed / len(rows),
        "mutants_equivalent": float(equivalent),
        "mutants_killed_share_of_visible": killed / (len(rows) - equivalent),
        "mutants_timeouts": float(sum(row["timeout"] for row in rows)),
    }
    for room, place in ROOMS.items():
        inside = [row["killed"] for row in rows if row["file"].startswith(place)]
        figures[f"mutants_killed_share_{room}"] = sum(inside) / len(inside) if inside else 0.0
    return figures


def key_of(row: Mapping) -> str:
    return f"{row['file']}\n{row['before']}\n{row['after']}"


def read_reasons() -> dict[str, str]:
    """Return why mutants change nothing that can be seen, by their key."""
    return {key_of(row): row["reason"] for row in json.loads(EQUIVALENT.read_text(encoding="utf-8"))}


def survivors(rows: Sequence[Mapping], reasons: Mapping[str, str]) -> list[dict]:
    """Return the mutants that no test noticed, with the reason where there is one."""
    told = ("file", "line", "before", "after", "tests")
    return [
        {**{name: row[name] for name in told}, "reason": reasons.get(key_of(row), "")}
        for row in rows
        if not row["killed"]
    ]


def run(options: argparse.Namespace, folder: Path) -> dict:
    """Try the mutants that are not yet in the file of rows; return what goes into the JSON."""
    rooms = mutable_files()
    counts = share_out(options.count, line_counts(rooms), least=min(LEAST, options.count // len(ROOMS)))
    mutants = draw_mutants(rooms, counts, options.seed)
    random.Random(options.seed).shuffle(mutants)  # so that a part of them is a fair sample, too
    files, copy = test_files(), Copy(folder)
    warm_up(copy, files)
    kept = options.json.with_suffix(".rows.json")
    tests = TestMap(copy, options.json.with_name("mutants_lines.json"))
    tests.measure(files, list(ROOMS.values()))
    bench = Bench(copy, tests, options.test_seconds)
    rows = json.loads(kept.read_text()) if kept.is_file() else {}
    for number, mutant in enumerate(mutants, 1):
        row = rows.get(mutant.key)
        if row is None or row["made_by"] != bench.digest(mutant):
            rows[mutant.key] = row = bench.try_mutant(mutant)
            kept.write_text(json.dumps(rows))
            outcome = "killed" if row["killed"] else f"SURVIVED {row['tests']} tests"
            print(
                f"{number}/{len(mutants)} {mutant.file}:{mutant.line} {outcome}, {row['seconds']} s",
                flush=True,
            )
    drawn = [rows[mutant.key] for mutant in mutants]
    reasons = read_reasons()
    failing = sum(bench.control_fails(mutant) for mutant in mutants[:CONTROLS])
    return {
        "seed": float(options.seed),
        **figures_of(drawn, reasons),
        "mutants_controls_failed": float(failing),
        "survivors": survivors(drawn, reasons),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="dev.py bench mutants", description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, required=True, help="file for the figures and the survivors")
    parser.add_argument("--seed", type=int, default=141, help="what the mutants are drawn from (141)")
    parser.add_argument("--count", type=int, default=320, help="how many (320)")
    parser.add_argument(
        "--test-seconds",
        type=float,
        default=MOST_TEST_SECONDS,
        help=f"most seconds of tests for one mutant ({MOST_TEST_SECONDS:g}); fewer find fewer",
    )
    parser.add_argument("--quick", action="store_true", help="ten mutants: does it run at all?")
    options = parser.parse_args()
    options.json = options.json.resolve()
    options.count = 10 if options.quick else options.count
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["OMP_NUM_THREADS"] = "1"  # a forked child has none of its parent's threads
    with tempfile.TemporaryDirectory(prefix="magic141-mutants-", ignore_cleanup_errors=True) as folder:
        text = json.dumps(run(options, Path(folder)), indent=1)
    print(text)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

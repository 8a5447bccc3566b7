"""Faults: kills, damaged files, failing disks, Windows' rules, races, cancels and a soak of the nodes that keep work.

Everything is drawn from a seed, which is printed: the same seed gives the same faults. Children are forked from one
warm process, a case each; the soak runs in a real server. ``--quick`` takes about a minute and leaves the soak out.
Linux only: it forks and reads /proc.
"""

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from magic141.tools.host import use_comfyui

ZEROS = (
    "windows_lost",
    "frames_different",
    "work_lost_beyond_last_item",
    "leftover_files_after_next_run",
    "raw_errors",
    "silent_wrong",
    "hangs",
    "server_deaths",
    "outside_touched",
    "code_executed",
    "half_written",
    "trainings_lost",
)
"""Figures that must be 0."""
COUNTS = ("kills", "races", "cancels", "malformed", "disk_faults")


@dataclass(frozen=True)
class Amounts:
    """How many cases of each part."""

    kills: int
    races: int
    cancels: int
    states: int
    inputs: int
    texts: int
    disks: int
    full_disks: int
    windows: int
    soak: int


QUICK = Amounts(6, 2, 4, 8, 6, 300, 8, 4, 5, 0)
LONG = Amounts(100, 20, 40, 400, 200, 2000, 160, 40, 60, 300)


def run(seed: int, amounts: Amounts, *, parts: list[str] | None = None) -> dict[str, float]:
    """Run the parts and return the figures.

    Args:
        parts: names out of ``PARTS``; None for all.
    """
    from magic141.tests.bench.support import faults_jobs
    from magic141.tests.bench.support.faults_kills import Bench
    from magic141.tests.bench.support.faults_malformed import write_outside

    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(1)  # a forked child has none of its parent's threads
    with tempfile.TemporaryDirectory(prefix="magic141-faults-", ignore_cleanup_errors=True) as folder:
        root = Path(folder)
        faults_jobs.write_inputs(root / "shared")
        write_outside(root)
        bench = Bench(root, faults_jobs.make_jobs(), random.Random(seed))
        _make_ready_set(bench)
        bench.measure_undisturbed()
        figures: dict[str, float] = {}
        for name, part in PARTS.items():
            if parts is None or name in parts:
                started = time.monotonic()
                bench.dice = random.Random(f"{seed} {name}")  # a part alone draws what it draws among all
                figures |= part(bench, amounts) or {}
                print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        counted = {name: float(bench.counts[name]) for name in (*COUNTS, *ZEROS)}
        others = {
            name.replace(" ", "_"): float(count)
            for name, count in sorted(bench.counts.items())
            if name not in counted
        }
        return {"seed": float(seed)} | counted | others | figures


def _make_ready_set(bench) -> None:
    """Build the set that is distilled on, once for all."""
    from magic141.tests.bench.support.faults_children import in_child

    place = bench.place()
    job = next(job for job in bench.jobs if job.name == "set")
    if (outcome := in_child(job.work(place))).kind != "fine":
        raise RuntimeError(f"The training set cannot be built: {outcome.text}")
    shutil.copytree(place.case / "models/sets/set", bench.shared / "sets/ready")


def _kills(bench, amounts: Amounts) -> None:
    from magic141.tests.bench.support.faults_kills import kill_jobs

    kill_jobs(bench, kills=amounts.kills)


def _races(bench, amounts: Amounts) -> None:
    from magic141.tests.bench.support.faults_kills import race_jobs

    race_jobs(bench, races=amounts.races)


def _malformed(bench, amounts: Amounts) -> dict[str, float]:
    from magic141.tests.bench.support import faults_malformed as malformed

    slowest = malformed.check_inputs(bench, count=amounts.texts)
    malformed.damage_state(bench, count=amounts.states)
    malformed.damage_inputs(bench, count=amounts.inputs)
    return {"prompts_validated_max_s": slowest}


def _disks(bench, amounts: Amounts) -> None:
    from magic141.tests.bench.support import faults_disk

    faults_disk.fail_disks(bench, count=amounts.disks)
    faults_disk.fill_disks(bench, count=amounts.full_disks)
    faults_disk.keep_windows_rules(bench, count=amounts.windows)


def _cancels(bench, amounts: Amounts) -> dict[str, float]:
    from magic141.tests.bench.support.faults_cancels import cancel_all

    return cancel_all(bench, cancels=amounts.cancels)


def _soak(_bench, amounts: Amounts) -> dict[str, float]:
    from magic141.tests.bench.support.faults_soak import soak

    return soak(prompts=amounts.soak) if amounts.soak else {}


PARTS: dict[str, Callable[..., dict[str, float] | None]] = {
    "kills": _kills,
    "races": _races,
    "malformed": _malformed,
    "disks": _disks,
    "cancels": _cancels,
    "soak": _soak,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--seed", type=int, default=141, help="what everything is drawn from (141)")
    parser.add_argument(
        "--quick", action="store_true", help="a few cases of each part, no soak; about a minute"
    )
    parser.add_argument(
        "--part", action="append", choices=list(PARTS), help="only this part; may be repeated"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="share of the long form's cases (1)")
    options = parser.parse_args()
    use_comfyui()
    amounts = QUICK if options.quick else Amounts(*(round(n * options.scale) for n in vars(LONG).values()))
    print(f"seed {options.seed}, {amounts}", flush=True)
    text = json.dumps(run(options.seed, amounts, parts=options.part), indent=1)
    print(text)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

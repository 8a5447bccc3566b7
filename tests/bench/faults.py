"""Faults: kills, damaged files, failing disks, Windows' rules, races, cancels and a soak of the nodes that keep work.

Everything is drawn from a seed, which is printed: the same seed gives the same faults. Children are forked from one
warm process, a case each; ``servers`` and ``soak`` run real servers. ``--quick`` takes about a minute, leaves these two
out, and cancels only the nodes that keep work. Linux only: it forks and reads /proc.

The long form can be run in parts (``--part``, may be repeated) and a part in pieces (``--piece 2/4``); with the same
``--json`` file they are put together, and a part or piece that is run again takes the place of its older figures. The
correctness of what comes out does not depend on how busy the machine is; ``--timed`` runs the parts whose figures are
times or sizes, for a quiet machine.
"""

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from magic141.tools.host import use_comfyui
from tqdm import tqdm

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
TIMED = ("prompts", "cancels", "soak")
"""Parts whose figures are times or sizes."""


@dataclass(frozen=True)
class Amounts:
    """How many cases of each part."""

    kills: int
    server_kills: int
    races: int
    cancels: int
    cancels_in_server: int
    states: int
    inputs: int
    texts: int
    disks: int
    full_disks: int
    windows: int
    soak: int


QUICK = Amounts(4, 0, 2, 4, 0, 8, 6, 300, 4, 2, 5, 0)
LONG = Amounts(100, 24, 20, 66, 2, 400, 200, 2000, 160, 40, 60, 300)


Figures = dict[str, float]


def run(seed: int, amounts: Amounts, *, parts: list[str], piece: str = "1/1") -> dict[str, Figures]:
    """Run the parts and return each one's figures, counts among them.

    Args:
        parts: names out of ``PARTS``.
        piece: which one of how many pieces of each part; it draws cases of its own.
    """
    from magic141.tests.bench.support import faults_jobs
    from magic141.tests.bench.support.faults_kills import Bench
    from magic141.tests.bench.support.faults_malformed import write_outside

    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(1)  # a forked child has none of its parent's threads
    tqdm.monitor_interval = 0  # no thread of its own
    tqdm.set_lock(
        threading.RLock()
    )  # its own is shared by all processes: a killed one would hold it for ever
    with tempfile.TemporaryDirectory(prefix="magic141-faults-", ignore_cleanup_errors=True) as folder:
        root = Path(folder)
        faults_jobs.write_inputs(root / "shared")
        write_outside(root)
        bench = Bench(root, faults_jobs.make_jobs(), random.Random(seed))
        _make_ready_set(bench)
        bench.measure_undisturbed()
        found: dict[str, Figures] = {}
        for name in parts:
            started = time.monotonic()
            bench.counts.clear()
            bench.dice = random.Random(f"{seed} {name} {piece}")  # a part alone draws what it draws among all
            figures = PARTS[name](bench, amounts) or {}
            counts = {key.replace(" ", "_"): float(count) for key, count in bench.counts.items()}
            found[f"{name} {piece}"] = counts | figures
            print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        return found


def together(seed: int, found: dict[str, Figures]) -> Figures:
    """Return the figures of all parts: counts added up, times the longest."""
    total = {"seed": float(seed)} | dict.fromkeys((*COUNTS, *ZEROS), 0.0)
    for figures in found.values():
        for name, value in figures.items():
            is_time = name.endswith(("_s", "_per_prompt"))
            total[name] = max(total.get(name, value), value) if is_time else total.get(name, 0.0) + value
    return total


def put_together(file: Path, seed: int, found: dict[str, Figures]) -> dict[str, Figures]:
    """Keep what this run found beside what earlier ones with this seed did; return all of it.

    What was found of a part in another number of pieces is forgotten.
    """
    kept = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {"seed": seed, "parts": {}}
    pieces = {key.split()[0]: key.partition("/")[2] for key in found}

    def is_same_cut(key: str) -> bool:
        here = key.partition("/")[2]
        return pieces.get(key.split()[0], here) == here

    older = {key: value for key, value in kept["parts"].items() if is_same_cut(key)}
    every = (older if kept["seed"] == seed else {}) | found
    file.write_text(json.dumps({"seed": seed, "parts": every}, indent=1), encoding="utf-8")
    return every


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


def _servers(bench, amounts: Amounts) -> None:
    from magic141.tests.bench.support.faults_servers import kill_servers

    kill_servers(bench, kills=amounts.server_kills)


def _races(bench, amounts: Amounts) -> None:
    from magic141.tests.bench.support.faults_kills import race_jobs

    race_jobs(bench, races=amounts.races)


def _malformed(bench, amounts: Amounts) -> None:
    from magic141.tests.bench.support import faults_malformed as malformed

    malformed.check_inputs(bench, count=amounts.texts)
    malformed.damage_state(bench, count=amounts.states)
    malformed.damage_inputs(bench, count=amounts.inputs)


def _prompts(bench, _amounts: Amounts) -> Figures:
    from magic141.tests.bench.support.faults_malformed import time_long_boxes

    return {"prompts_validated_max_s": time_long_boxes(bench)}


def _disks(bench, amounts: Amounts) -> None:
    from magic141.tests.bench.support import faults_disk

    faults_disk.fail_disks(bench, count=amounts.disks)
    faults_disk.fill_disks(bench, count=amounts.full_disks)
    faults_disk.keep_windows_rules(bench, count=amounts.windows)


def _cancels(bench, amounts: Amounts) -> Figures:
    from magic141.tests.bench.support.faults_cancels import cancel_all

    return cancel_all(bench, cancels=amounts.cancels, server_rounds=amounts.cancels_in_server)


def _soak(_bench, amounts: Amounts) -> Figures:
    from magic141.tests.bench.support.faults_soak import soak

    return soak(prompts=amounts.soak) if amounts.soak else {}


PARTS: dict[str, Callable[..., Figures | None]] = {
    "kills": _kills,
    "servers": _servers,
    "races": _races,
    "malformed": _malformed,
    "disks": _disks,
    "prompts": _prompts,
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
    parser.add_argument(
        "--timed", action="store_true", help=f"only {', '.join(TIMED)}, whose figures need a quiet machine"
    )
    parser.add_argument(
        "--piece", default="1/1", help="one piece of the long form's cases, such as 2/4 (1/1)"
    )
    options = parser.parse_args()
    use_comfyui()
    of = int(options.piece.partition("/")[2])
    amounts = QUICK if options.quick else Amounts(*(-(-n // of) for n in vars(LONG).values()))
    print(f"seed {options.seed}, {amounts}", flush=True)
    parts = list(TIMED) if options.timed else options.part or list(PARTS)
    found = run(options.seed, amounts, parts=parts, piece=options.piece)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        found = put_together(options.json.with_suffix(".parts.json"), options.seed, found)
        options.json.write_text(json.dumps(together(options.seed, found), indent=1) + "\n", encoding="utf-8")
    print(json.dumps(together(options.seed, found), indent=1))


if __name__ == "__main__":
    main()

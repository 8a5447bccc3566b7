"""Give the nodes files and texts that anyone may have written, and see what they say."""

import hashlib
import random
import shutil
import time
from pathlib import Path
from typing import Any

from .faults_children import in_child, say
from .faults_jobs import Job, Place
from .faults_kills import Bench, judge
from .faults_mutations import MUTATIONS, link_out, plant_pickle, swap

PATIENCE_S = 60.0
PROMPT_LETTERS = "ab [](){}-–:.,;0123456789\n\t#|*\\\"'\u2028\u00a0\ud83d\U0001f600smh%"
INPUTS = (
    "input/pictures/0/*",
    "input/videos/*",
    "weights/*",
    "sets/ready/*",
    "sets/ready/*/*",
    "encoders/*/*",
)
INPUT_JOBS = {
    "pictures": "index",
    "videos": "set",
    "weights": "quantize",
    "sets": "distill",
    "encoders": "index",
}


def damage_state(bench: Bench, *, count: int) -> None:
    """Damage a file that a finished run left, and run again: the result is the same, or it is said why not."""
    jobs = [job for job in bench.jobs if job.state]
    for number in range(count):
        job = jobs[number % len(jobs)]
        place = bench.place()
        shutil.copytree(bench.root / "undisturbed" / job.name, place.case, dirs_exist_ok=True)
        files = sorted(p for pattern in job.state for p in place.case.glob(pattern) if p.is_file())
        path = bench.dice.choice(files)
        what = f"{job.name}: {path.name} {_damage(bench, path, files)}"
        _judge_run(bench, job, place, what, same_result=True)


def damage_inputs(bench: Bench, *, count: int) -> None:
    """Damage a file that a node is given."""
    by_name = {job.name: job for job in bench.jobs}
    for number in range(count):
        pattern = INPUTS[number % len(INPUTS)]
        place = bench.place()
        place = Place(place.case / "shared", place.case)
        shutil.copytree(bench.shared, place.shared, ignore=shutil.ignore_patterns("long.mp4"))
        files = sorted(p for p in place.shared.glob(pattern) if p.is_file())
        path = bench.dice.choice(files)
        job = next(by_name[name] for part, name in INPUT_JOBS.items() if part in pattern)
        what = f"{job.name}: given {path.name} {_damage(bench, path, files)}"
        _judge_run(bench, job, place, what, same_result=False)


def _damage(bench: Bench, path: Path, files: list[Path]) -> str:
    """Damage a file; return how."""
    chosen = bench.dice.random()
    if chosen < 0.06:
        link_out(path, bench.root / "outside" / "precious.txt")
        return "linked out"
    if chosen < 0.12:
        plant_pickle(path, bench.root / "executed")
        return "pickled"
    if chosen < 0.2:
        other = bench.dice.choice([f for f in files if f.suffix == path.suffix])
        if other != path:
            swap(path, other)
        return f"swapped with {other.name}"
    mutation = bench.dice.choice(MUTATIONS)
    mutation(path, bench.dice)
    return mutation.__name__


def _judge_run(bench: Bench, job: Job, place: Place, what: str, *, same_result: bool) -> None:
    outside = _digest(bench.root / "outside")
    outcome = in_child(job.work(place), patience_s=PATIENCE_S)
    bench.counts["malformed"] += 1
    bench.counts[f"malformed {outcome.kind}"] += 1
    judge(bench, outcome, what)
    if outcome.kind == "fine" and same_result and bench.result(job, place) != bench.wanted[job.name]:
        bench.fault("silent_wrong", what)
    if _digest(bench.root / "outside") != outside:
        bench.fault("outside_touched", what)
    if (bench.root / "executed").exists():
        bench.fault("code_executed", what)
        (bench.root / "executed").rmdir()
    shutil.rmtree(place.case, ignore_errors=True)


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(path.name.encode() + (path.read_bytes() if path.is_file() else b""))
    return digest.hexdigest()


def write_outside(root: Path) -> None:
    """Write the files that no run may touch."""
    (root / "outside").mkdir()
    (root / "outside" / "precious.txt").write_text("someone's work")


def check_inputs(bench: Bench, *, count: int) -> float:
    """Give every node's check of inputs texts and numbers that nobody types; return the longest time it took."""
    seed = bench.dice.random()
    outcome = in_child(lambda: _check_all(random.Random(seed), count))
    bench.counts["malformed"] += count
    judge(bench, outcome, "validate_inputs")
    if outcome.kind != "fine":
        bench.fault("raw_errors", f"validate_inputs: {outcome.text}")
        return 0.0
    faults, slowest = outcome.value
    for fault in faults:
        bench.fault("raw_errors", fault)
    say(f"inputs checked: {count}, the slowest in {slowest:.3f} s")
    return slowest


def _check_all(dice: random.Random, count: int) -> tuple[list[str], float]:
    import asyncio
    import inspect

    from comfy_api.latest import io
    from magic141.nodes import Magic141Extension

    checks = []
    for node in asyncio.run(Magic141Extension().get_node_list()):
        named = inspect.signature(node.validate_inputs).parameters
        widgets = [each for each in node.define_schema().inputs if isinstance(each, io.WidgetInput)]
        checks += [(node, widgets, widget) for widget in widgets if widget.id in named]
    faults: list[str] = []
    for _ in range(count):
        node, widgets, widget = dice.choice(checks)
        named = inspect.signature(node.validate_inputs).parameters
        values = {each.id: each.default for each in widgets if each.id in named}
        values |= {name: None for name in named if name not in values}
        try:
            node.validate_inputs(**values | {widget.id: _value(widget, dice)})
        except Exception as error:  # whatever it is, a person would meet it
            faults.append(f"{node.__name__} {widget.id}: {error!r}")
    return faults, max(_timed(text) for text in _long_boxes(dice))


def _value(widget: Any, dice: random.Random) -> Any:
    """Return a value of the widget's own type, which the host has made sure of, and of no sense."""
    from comfy_api.latest import io

    if isinstance(widget, io.Int.Input):
        return dice.choice((-1, 0, 1, 7, 2**31, -(2**63), 2**64, 10**30))
    if isinstance(widget, io.Float.Input):
        return dice.choice((-1.0, 0.0, 1e308, -1e308, float("nan"), float("inf"), 1e-320))
    if isinstance(widget, io.Boolean.Input):
        return dice.choice((True, False))
    return "".join(dice.choice(PROMPT_LETTERS) for _ in range(dice.choice((0, 1, 5, 30, 300))))


def _long_boxes(dice: random.Random) -> list[str]:
    """Return boxes of 100,000 characters of the kinds that parsers are slow at."""
    pieces = ("a", " ", "\n", "[", "[0-", "[0-1] a\n", "[ 0 - 1 ]", "1:", "[0.0s-", "(", "#\n", "\\")
    boxes = [(piece * 100_000)[:100_000] for piece in pieces]
    return [*boxes, "".join(dice.choices(PROMPT_LETTERS, k=100_000)), "[0-" + " " * 99_000 + "1] a"]


def _timed(text: str) -> float:
    from magic141.nodes.limits import keep_limits
    from magic141.nodes.sliding_window import SlidingWindowExtend

    started = time.monotonic()
    keep_limits(SlidingWindowExtend).validate_inputs(prompts=text, negative_prompt=text)
    return time.monotonic() - started

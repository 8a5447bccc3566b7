"""Give the nodes files and texts that anyone may have written, and see what they say."""

import hashlib
import inspect
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


def check_inputs(bench: Bench, *, count: int) -> None:
    """Give every node's check of inputs texts and numbers that nobody types."""
    seed = bench.dice.random()
    outcome = in_child(lambda: _check_all(random.Random(seed), count))
    bench.counts["malformed"] += count
    judge(bench, outcome, "validate_inputs")
    for fault in outcome.value if outcome.kind == "fine" else [f"validate_inputs: {outcome.text}"]:
        bench.fault("raw_errors", fault)
    say(f"inputs checked: {count}")


def time_long_boxes(bench: Bench) -> float:
    """Return the longest time that the check of a box of 100,000 characters takes."""
    seed = bench.dice.random()
    outcome = in_child(lambda: _slowest_box(random.Random(seed)))
    judge(bench, outcome, "a box of 100,000 characters")
    return outcome.value if outcome.kind == "fine" else PATIENCE_S


def _checks() -> list[tuple[Any, list[Any], Any]]:
    """Return every widget that a node checks itself, as (node, all its widgets, the widget)."""
    import asyncio

    from comfy_api.latest import io
    from magic141.nodes import Magic141Extension

    checks = []
    for node in asyncio.run(Magic141Extension().get_node_list()):
        named = inspect.signature(node.validate_inputs).parameters
        widgets = [each for each in node.define_schema().inputs if isinstance(each, io.WidgetInput)]
        checks += [(node, widgets, widget) for widget in widgets if widget.id in named]
    return checks


def _check_all(dice: random.Random, count: int) -> list[str]:
    checks = _checks()
    faults: list[str] = []
    for _ in range(count):
        node, widgets, widget = dice.choice(checks)
        try:
            node.validate_inputs(**_defaults(node, widgets) | {widget.id: _value(widget, dice)})
        except Exception as error:  # whatever it is, a person would meet it
            faults.append(f"{node.__name__} {widget.id}: {error!r}")
    return faults


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


def _defaults(node: Any, widgets: list[Any]) -> dict[str, Any]:
    """Return what a check is given: the widgets' defaults, and None for what is linked."""
    named = inspect.signature(node.validate_inputs).parameters
    return dict.fromkeys(named) | {each.id: each.default for each in widgets if each.id in named}


def _slowest_box(dice: random.Random) -> float:
    """Return the longest time that a node's check takes with one of its text boxes full."""
    boxes = [each for each in _checks() if getattr(each[2], "multiline", False)]
    assert len(boxes) > 1
    slowest = 0.0
    for text in _long_boxes(dice):
        for node, widgets, widget in boxes:
            values = _defaults(node, widgets) | {widget.id: text}
            started = time.monotonic()
            node.validate_inputs(**values)
            slowest = max(slowest, time.monotonic() - started)
    return slowest

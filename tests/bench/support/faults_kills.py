"""Kill, cancel and race the five nodes that keep work on disk, and compare with an undisturbed run."""

import random
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from magic141.tests.support.distill_graphs import STEPS

from .faults_children import Child, Outcome, in_child, say
from .faults_jobs import Job, Place, leftovers

MAX_KILLS = 3
"""How often one run is killed before it may end."""


@dataclass
class Bench:
    """What all parts share: folders, jobs, dice, what an undisturbed run makes, and the counts."""

    root: Path
    jobs: list[Job]
    dice: random.Random
    counts: Counter[str] = field(default_factory=Counter)
    wanted: dict[str, dict[str, str]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    _number: int = 0

    @property
    def shared(self) -> Path:
        return self.root / "shared"

    def place(self) -> Place:
        """Return a new, empty place."""
        self._number += 1
        return Place(self.shared, self.root / f"case-{self._number}")

    def fault(self, name: str, text: str, number: int = 1) -> None:
        """Count a fault and remember it."""
        self.counts[name] += number
        self.faults.append(f"{name}: {text}")
        say(f"  FAULT {self.faults[-1]}")

    def measure_undisturbed(self) -> None:
        """Run every job once without disturbance, and keep what it made and how long it took.

        Raises:
            RuntimeError: a job fails all by itself.
        """
        for job in self.jobs:
            place = self.place()
            outcome = in_child(job.work(place))
            if outcome.kind != "fine":
                raise RuntimeError(f"{job.name} fails undisturbed: {outcome.kind} {outcome.text}")
            self.seconds[job.name] = outcome.seconds
            self.wanted[job.name] = self.result(job, place)
            assert self.wanted[job.name], f"nothing that {job.name} made was found"
            shutil.copytree(place.case, self.root / "undisturbed" / job.name)
            shutil.rmtree(place.case)

    def result(self, job: Job, place: Place) -> dict[str, str]:
        """Return what a job has made, read in a child: this process opens no files of others."""
        outcome = in_child(lambda: job.result(place.case))
        return outcome.value if outcome.kind == "fine" else {"unreadable": outcome.text}

    def finish(
        self, job: Job, place: Place, what: str, *, run: Callable[[], Outcome] | None = None
    ) -> Outcome:
        """Let the next run end, and count what it should not have done.

        Args:
            run: does it; a child if None.
        """
        before = job.items(place.case)
        outcome = in_child(job.work(place)) if run is None else run()
        if outcome.kind != "fine":
            self.fault(
                "work_lost_beyond_last_item", f"{what}: the next run says {outcome.kind} {outcome.text}"
            )
            return outcome
        self.check_kept(job, place, what, before)
        self.check_taken_over(job, what, before, str(outcome.value))
        made, wanted = self.result(job, place), self.wanted[job.name]
        if made != wanted:
            differing = [name for name in {*made, *wanted} if made.get(name) != wanted.get(name)]
            self.fault("frames_different", f"{what}: {', '.join(differing[:5])} {made.get('unreadable', '')}")
        if left := leftovers(place.case):
            self.fault("leftover_files_after_next_run", f"{what}: {left}", len(left))
        return outcome

    def check_kept(self, job: Job, place: Place, what: str, before: dict[str, Any]) -> None:
        """Count finished items that the next run made again."""
        after = job.items(place.case)
        lost = [name for name, value in before.items() if after.get(name) != value and name != "steps"]
        if after.get("steps", 0) < before.get("steps", 0):
            lost.append("steps")
        if lost:
            name = (
                "windows_lost"
                if any("magic141_runs" in pattern for pattern in job.state)
                else "work_lost_beyond_last_item"
            )
            self.fault(name, f"{what}: {lost[:3]}", len(lost))

    def check_taken_over(self, job: Job, what: str, before: dict[str, Any], report: str) -> None:
        """Count items that were finished and that the next run does not say it took over."""
        finished = before.get("steps", len(before))
        if job.taken_over is None or not finished or before.get("steps") == STEPS:
            return
        if (taken := job.taken_over(report)) < finished:
            self.fault("work_lost_beyond_last_item", f"{what}: {finished} finished, {taken} taken over")


def kill_jobs(bench: Bench, *, kills: int) -> None:
    """Kill every job at random moments, some several times, and let it end."""
    each = -(-kills // len(bench.jobs))
    for job in bench.jobs:
        done = 0
        while done < each:
            place, chain = bench.place(), min(bench.dice.randint(1, MAX_KILLS), each - done)
            moments = [bench.dice.uniform(0.02, 1.0) * bench.seconds[job.name] for _ in range(chain)]
            for moment in moments:
                before = job.items(place.case)
                child = Child(job.work(place))
                if not child.ends_within(moment):  # else it was quicker, and is no kill
                    child.kill()
                    bench.counts["kills"] += 1
                    done += 1
                child.outcome()
                bench.check_kept(job, place, f"{job.name} killed after {moment:.3f} s", before)
            bench.finish(job, place, f"{job.name} killed after {moments} s")
            shutil.rmtree(place.case, ignore_errors=True)
    say(f"kills: {bench.counts['kills']}")


def race_jobs(bench: Bench, *, races: int) -> None:
    """Start two processes on one folder: one makes the work, the other waits its turn with a sentence."""
    for number in range(races):
        job = bench.jobs[number % len(bench.jobs)]
        place = bench.place()
        place.case.mkdir(parents=True)
        first = Child(job.work(place))
        time.sleep(bench.dice.uniform(0, 0.5) * bench.seconds[job.name])
        second = Child(job.work(place))
        outcomes = [first.outcome(), second.outcome()]
        bench.counts["races"] += 1
        for outcome in outcomes:
            judge(bench, outcome, f"{job.name} raced")
        bench.finish(job, place, f"{job.name} raced: {[outcome.text for outcome in outcomes]}")
        shutil.rmtree(place.case, ignore_errors=True)


def judge(bench: Bench, outcome: Outcome, what: str) -> None:
    """Count an outcome that no person should meet."""
    names = {"raw": "raw_errors", "hang": "hangs", "died": "server_deaths", "deadly": "server_deaths"}
    if outcome.kind in names:
        bench.fault(names[outcome.kind], f"{what}: {outcome.text}")


def cancel_jobs(bench: Bench, jobs: list[Job], *, cancels: int) -> float:
    """Cancel jobs at random moments; return the longest time until one was heard.

    Args:
        jobs: those of the bench, whose next run is checked too, and others.
    """
    slowest = 0.0
    for number in range(cancels):
        job = jobs[number % len(jobs)]
        place = bench.place()
        moment = bench.dice.uniform(0.0, 0.95) * bench.seconds[job.name]
        outcome = in_child(lambda job=job, place=place, moment=moment: _cancelled(job, place, moment))
        bench.counts["cancels"] += 1
        judge(bench, outcome, f"{job.name} cancelled after {moment:.3f} s")
        if isinstance(outcome.value, float):
            if outcome.value > 1:
                bench.fault("cancels_late", f"{job.name} after {moment:.3f} s: {outcome.value:.2f} s")
            slowest = max(slowest, outcome.value)
        if job in bench.jobs:
            bench.finish(job, place, f"{job.name} cancelled after {moment:.3f} s")
        shutil.rmtree(place.case, ignore_errors=True)
    return slowest


def _cancelled(job: Job, place: Place, moment: float) -> float | None:
    """Run a job and cancel it; return how long that took to be heard, None if it had ended."""
    import comfy.model_management as management

    said_at: list[float] = []

    def cancel() -> None:
        said_at.append(time.monotonic())
        management.interrupt_current_processing(True)

    timer = threading.Timer(moment, cancel)
    timer.start()
    try:
        job.work(place)()
    except management.InterruptProcessingException:
        return time.monotonic() - said_at[0]
    finally:
        timer.cancel()
    return time.monotonic() - said_at[0] if said_at else None

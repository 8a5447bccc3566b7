"""Cancel every node that can run long: at random moments, and by the longest time in which nothing asked for a cancel.

The second figure needs no luck: what a node does between two questions is what a cancel at its beginning waits for.
"""

import shutil
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from magic141.tools.imports import ROOT

from .faults_children import in_child, say
from .faults_jobs import Job, Place
from .faults_kills import Bench, cancel_jobs
from .faults_long_jobs import long_jobs, write_long_inputs
from .faults_servers import cancel_in_server


def cancel_all(bench: Bench, *, cancels: int, server_rounds: int) -> dict[str, float]:
    """Cancel the bench's jobs, those that take long but keep nothing, and jobs in a server; return the latencies.

    A few cancels reach the bench's jobs alone, so the others are left out with all that they would read.
    """
    others = long_jobs() if cancels > len(bench.jobs) else []
    if others:
        write_long_inputs(bench.shared)
    if failing := [text for job in others if (text := _measure(bench, job))]:
        raise RuntimeError("Undisturbed jobs fail:\n" + "\n".join(failing))
    jobs = [*bench.jobs, *others]
    slowest = cancel_jobs(bench, jobs, cancels=cancels)
    slowest = max(slowest, cancel_in_server(bench, rounds=server_rounds))
    unheard = max(_longest_unheard(bench, job) for job in jobs)
    one_call = in_child(_one_model_call).value
    say(
        f"cancels: {bench.counts['cancels']} of {len(jobs)} jobs, heard after {slowest:.3f} s at most; unheard for "
        f"{unheard:.3f} s at most; one model call {one_call:.3f} s"
    )
    return {
        "cancel_latency_max_s": slowest,
        "cancel_unheard_max_s": unheard,
        "one_model_call_s": one_call,
        "nodes_canceled": float(len(jobs)),
    }


def _measure(bench: Bench, job: Job) -> str:
    """Run a job undisturbed and keep how long it took; return what is wrong where it fails all by itself."""
    place = bench.place()
    outcome = in_child(job.work(place))
    bench.seconds[job.name] = outcome.seconds
    shutil.rmtree(place.case, ignore_errors=True)
    return "" if outcome.kind == "fine" else f"{job.name}: {outcome.kind} {outcome.text}"


def _longest_unheard(bench: Bench, job: Job) -> float:
    """Return the longest time in which a job did not ask whether it was canceled, and say where that was."""
    place = bench.place()
    outcome = in_child(lambda: _gap(job, place))
    shutil.rmtree(place.case, ignore_errors=True)
    if outcome.kind != "fine":
        raise RuntimeError(f"{job.name} fails while its questions are timed: {outcome.kind} {outcome.text}")
    seconds, before, after = outcome.value
    say(f"  {job.name}: {outcome.seconds:.1f} s, unheard for {seconds:.3f} s between {before} and {after}")
    return seconds


def _gap(job: Job, place: Place) -> tuple[float, str, str]:
    """Run a job; return the longest time between two questions, and where these two were asked."""
    import comfy.model_management as management
    from magic141.model_patches.store import cancel

    longest, last, where = (0.0, "", ""), time.monotonic(), "the beginning"

    def note(here: str) -> None:
        nonlocal longest, last, where
        now = time.monotonic()
        longest = max(longest, (now - last, where, here))
        last, where = now, here

    def noting(ask: Callable[[], Any]) -> Callable[[], Any]:
        def asked() -> Any:
            note(_caller())
            return ask()

        return asked

    for name in ("throw_exception_if_processing_interrupted", "processing_interrupted"):
        setattr(management, name, noting(getattr(management, name)))
    cancel.set_cancel_check(management.throw_exception_if_processing_interrupted)
    job.work(place)()
    note("the end")
    return longest


def _caller() -> str:
    """Return the two innermost places of the pack that ask."""
    frames = traceback.extract_stack()[:-2]
    ours = [f for f in frames if Path(f.filename).is_relative_to(ROOT) and "/tests/" not in f.filename]
    ours = [f for f in ours if Path(f.filename).name not in ("cancel.py", "progress.py")]
    return " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(ours[-2:])) or "the host"


def _one_model_call() -> float:
    """Return the seconds of one call of the jobs' model, on one window."""
    from magic141.tests.support import tiny_run

    with torch.inference_mode():
        model = tiny_run.tiny_models().model
        inner = model.model.diffusion_model.float()
        x = torch.randn(1, 33, 4, 8, 8)
        states, mask = torch.randn(1, 8, 64), None
        pooled = torch.randn(1, 768)
        started = time.monotonic()
        inner(x, torch.tensor([500.0]), states, pooled, None, mask)
        return time.monotonic() - started

"""Cancel nodes at random moments: how long until it is heard, beside one call of a model."""

import shutil
import time
from collections.abc import Callable
from typing import Any

import torch

from .faults_children import in_child, say
from .faults_jobs import Job, guarded
from .faults_kills import Bench, cancel_jobs


def cancel_all(bench: Bench, *, cancels: int) -> dict[str, float]:
    """Cancel the bench's jobs and those that read a video of ten seconds; return the latency."""
    others = reading_jobs()
    for job in others:
        place = bench.place()
        outcome = in_child(job.work(place))
        if outcome.kind != "fine":
            raise RuntimeError(f"{job.name} fails undisturbed: {outcome.text}")
        bench.seconds[job.name] = outcome.seconds
        shutil.rmtree(place.case, ignore_errors=True)
    slowest = cancel_jobs(bench, [*bench.jobs, *others], cancels=cancels)
    one_call = in_child(_one_model_call).value
    say(
        f"cancels: {bench.counts['cancels']}, heard after {slowest:.3f} s at most; one model call {one_call:.3f} s"
    )
    return {"cancel_latency_max_s": slowest, "one_model_call_s": one_call}


def reading_jobs() -> list[Job]:
    """Return nodes that read a long source and keep nothing, or nothing yet."""
    return [_reading("continue", _continue), _reading("drift", _drift)]


def _reading(name: str, run: Callable[[], Any]) -> Job:
    return Job(name, guarded(run), lambda case: {}, lambda case: {})


def _source() -> Any:
    import folder_paths
    from comfy_api.latest import InputImpl

    return InputImpl.VideoFromFile(f"{folder_paths.input_directory}/long.mp4")


def _continue() -> Any:
    from magic141.model_patches.bridge.window.make import Models
    from magic141.tests.support import tiny_run, tiny_windows
    from magic141.tests.support.tiny_vae import open_thin_taehv

    opened = tiny_run.tiny_models()
    models = Models(opened.model, opened.encoders, open_thin_taehv())
    return tiny_windows.run(models, image=None, video=_source(), prompts="a", length=1, fps=24.0).report[
        "summary"
    ]


def _drift() -> Any:
    from magic141.nodes.drift_report import DriftReport

    return DriftReport.execute(_source(), 24).result[1]


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

"""Runs of a few tiny windows: settings, a request, and a count of the windows that are made."""

from dataclasses import fields, replace
from pathlib import Path

import torch
from magic141.model_patches.bridge.window.make import WindowMaker
from magic141.model_patches.bridge.window.run import Caller, Outcome, run_windows
from magic141.model_patches.bridge.window.start import Sources
from magic141.model_patches.store.video_source import read_frames
from magic141.model_patches.window.settings import WindowSettings

SETTINGS = WindowSettings(
    prompts="a\nb\nc",
    length=3,
    length_in="windows",
    window_length=13,
    width=16,
    height=16,
    steps=1,
    guidance=None,
    seed=5,
    run_name="t",
    codec="ffv1 lossless",
)
IMAGE = torch.rand(1, 16, 16, 3, generator=torch.Generator().manual_seed(3))
SOURCES = Sources(IMAGE)


def run(models, caller: Caller | None = None, **changes) -> Outcome:
    """Make three windows from ``IMAGE``, or what other settings and sources say."""
    sources = {field.name: changes.pop(field.name) for field in fields(Sources) if field.name in changes}
    return run_windows(models, replace(SETTINGS, **changes), replace(SOURCES, **sources), caller)


def frames_of(path: Path) -> torch.Tensor:
    return torch.stack(list(read_frames(path)))


def count_windows(monkeypatch, *, stop_at: int | None = None) -> list[int]:
    """Record which windows are made, and stop at one as a cancel would."""
    made: list[int] = []
    original = WindowMaker.make

    def counting(self, window, tail, **options):
        if window.index == stop_at:
            raise KeyboardInterrupt
        made.append(window.index)
        return original(self, window, tail, **options)

    monkeypatch.setattr(WindowMaker, "make", counting)
    return made

"""Runs of a few tiny windows: settings, a request, and a count of the windows that are made."""

from pathlib import Path

import torch
from magic141.model_patches.bridge.window import loop as window_loop
from magic141.model_patches.bridge.window.make import WindowSettings
from magic141.model_patches.bridge.window.run import Request
from magic141.model_patches.store.video_source import read_frames

SETTINGS = WindowSettings(width=16, height=16, window_latent=4, overlap_latent=1, steps=1, guidance=None)
IMAGE = torch.rand(1, 16, 16, 3, generator=torch.Generator().manual_seed(3))
REQUEST = Request(
    prompts="a\nb\nc",
    length=3,
    in_windows=True,
    fps=24,
    seed=5,
    run_name="t",
    codec="ffv1 lossless",
    image=IMAGE,
)


def frames_of(path: Path) -> torch.Tensor:
    return torch.stack(list(read_frames(path)))


def count_windows(monkeypatch, *, stop_at: int | None = None) -> list[int]:
    """Record which windows are made, and stop at one as a cancel would."""
    made: list[int] = []
    original = window_loop.make_window

    def counting(models, settings, window, **options):
        if window.index == stop_at:
            raise KeyboardInterrupt
        made.append(window.index)
        return original(models, settings, window, **options)

    monkeypatch.setattr(window_loop, "make_window", counting)
    return made

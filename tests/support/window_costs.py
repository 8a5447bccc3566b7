"""Where a run of windows spends its time, and whether its memory grows."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor

WARM_UP = 0.3
"""Share of the windows that allocators and codecs may take to settle."""


@contextlib.contextmanager
def timed_parts() -> Iterator[dict[str, float]]:
    """Time conditioning, sampling, decoding and video encoding of every window made inside."""
    from magic141.model_patches.bridge import window
    from magic141.model_patches.store import window_store

    spent: dict[str, float] = {}
    parts = {
        "conditioning": (window, "condition_window"),
        "sampling": (window, "sample_window"),
        "decoding": (window, "decode_window"),
        "encoding": (window_store, "write_segment"),
    }
    with contextlib.ExitStack() as stack:
        for part, (module, name) in parts.items():
            stack.enter_context(mock.patch.object(module, name, _timed(getattr(module, name), spent, part)))
        yield spent


def _timed(function, spent: dict[str, float], part: str):
    def timed(*arguments, **options):
        began = time.monotonic()
        try:
            return function(*arguments, **options)
        finally:
            spent[part] = spent.get(part, 0.0) + time.monotonic() - began

    return timed


def measure_memory(*, num_windows: int, side_px: int) -> dict[str, float]:
    """Measure the growth of a run's resident memory, in a process of its own."""
    command = [sys.executable, "-m", "magic141.tests.support.window_costs", str(num_windows), str(side_px)]
    out = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    return json.loads(out.splitlines()[-1])


class EnlargingVae:
    """Stands in for decoding: repeats pixels of the first three latent channels, as large as real frames."""

    def decode(self, latent: Tensor) -> Tensor:
        colours = latent[:, :3].sigmoid().repeat_interleave(8, 3).repeat_interleave(8, 4)
        frames = torch.cat([colours[:, :, :1], colours[:, :, 1:].repeat_interleave(4, 2)], dim=2)
        return frames.movedim(1, -1)


def memory_child(num_windows: int, side_px: int) -> None:
    """Run the whole loop with a random model's TAEHV stubbed and noise as samples; print the figures as JSON."""
    from magic141.tests.support.host import use_comfyui

    use_comfyui()
    import folder_paths
    from magic141.model_patches.bridge import window, window_loop
    from magic141.model_patches.bridge.window import WindowSettings
    from magic141.model_patches.bridge.window_run import Request, run_windows
    from magic141.tests.support.tiny_run import tiny_models

    resident: list[int] = []
    original = window_loop.window_facts

    def noting(*arguments):
        resident.append(resident_bytes())
        return original(*arguments)

    def noise(models, settings, positive, negative, latent, *_):
        return torch.randn(latent["samples"].shape)

    settings = WindowSettings(side_px, side_px, 4, 1, steps=1, guidance=None)
    image = torch.rand(1, side_px, side_px, 3)
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode(), contextlib.ExitStack() as stack:
        models = tiny_models()
        folder_paths.output_directory = folder
        for module, name, value in (
            (window, "sample_window", noise),
            (window_loop, "window_facts", noting),
            (models.vae, "decode", EnlargingVae().decode),
        ):
            stack.enter_context(mock.patch.object(module, name, value))
        run_windows(models, settings, Request("a", num_windows, True, 24.0, 1, "memory", image=image))
    window_bytes = 12 * side_px * side_px * 3 * 4
    print(
        json.dumps(
            {"rss_slope_share_of_window": slope(resident) / window_bytes, "rss_mb": resident[-1] / 2**20}
        )
    )


def slope(values: list[int]) -> float:
    """Return the least-squares growth per window after the warm-up."""
    y = torch.tensor(values[int(WARM_UP * len(values)) :], dtype=torch.float64)
    x = torch.arange(len(y), dtype=torch.float64)
    x = x - x.mean()
    return float((x * (y - y.mean())).sum() / x.square().sum())


def resident_bytes() -> int:
    """Return this process's resident memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    memory_child(int(sys.argv[1]), int(sys.argv[2]))

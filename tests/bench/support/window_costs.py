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

from ...support.shapes_models import CFG

WARM_UP = 0.3
"""Share of the windows that allocators and codecs may take to settle."""

OURS = {
    "hand_over": "latent",
    "overlap": 2,
    "color_anchor": 1.0,
    "turn_limit": 20.0,
}
"""What the embedded workflows ship with."""


def shapes_settings(**options):
    """Return the settings of a run on the embedded model."""
    from magic141.model_patches.window.settings import WindowSettings

    return WindowSettings(width=64, height=64, window_length=13, guidance=None, **{"cfg": CFG, **options})


def shapes_run(models, folder: Path, *, seconds: float, name: str):
    """Make one clip of the shapes world through the node's own run, into ``folder``."""
    import folder_paths
    from magic141.lab import world
    from magic141.model_patches.bridge.window.run import run_windows
    from magic141.model_patches.bridge.window.start import Sources

    folder_paths.output_directory = str(folder)
    scenes = world.sample_scenes(1, generator=torch.Generator().manual_seed(5))
    settings = shapes_settings(
        prompts=world.named_caption(scenes)[0],
        length=seconds,
        fps=world.FPS,
        seed=3,
        run_name=name,
        codec="ffv1 lossless",
        **OURS,
    )
    return run_windows(models, settings, Sources(world.render_clip(scenes, 1)[:, 0].movedim(1, -1)))


@contextlib.contextmanager
def timed_parts() -> Iterator[dict[str, float]]:
    """Time the loop over windows, and in it conditioning, sampling, decoding and video encoding."""
    from magic141.model_patches.bridge.window import make as window
    from magic141.model_patches.bridge.window import run as window_run
    from magic141.model_patches.window import store as window_store

    spent: dict[str, float] = {}
    parts = {
        "loop": (window_run, "make_windows"),
        "conditioning": (window.WindowMaker, "condition"),
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


def measure_speed(models, *, seconds: float) -> dict[str, float]:
    """Time one real run, and what a window takes beside sampling, decoding and video encoding.

    The overhead holds everything else: conditioning (given apart, too), hand-over, measures, journal, disk.
    """
    with tempfile.TemporaryDirectory() as folder:
        shapes_run(models, Path(folder), seconds=1.0, name="warm-up")
        began = time.monotonic()
        with timed_parts() as spent:
            outcome = shapes_run(models, Path(folder), seconds=seconds, name="speed")
        total = time.monotonic() - began
    count = len(outcome.report["windows"])
    loop = spent.pop("loop")
    overhead = loop - spent["sampling"] - spent["decoding"] - spent["encoding"]
    return {
        "seconds_per_video_second": total / seconds,
        "overhead_ms_per_window": 1000 * overhead / count,
        **{f"{part}_ms_per_window": 1000 * value / count for part, value in spent.items()},
    }


def measure_memory(*, num_windows: int, side_px: int) -> dict[str, float]:
    """Measure the growth of a run's resident memory, in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "magic141.tests.bench.support.window_costs",
        str(num_windows),
        str(side_px),
    ]
    out = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    return json.loads(out.splitlines()[-1])


def memory_child(num_windows: int, side_px: int) -> None:
    """Run the node's whole loop on random models that are small and real; print the figures as JSON.

    The DiT is of width 128 with one block of either kind, the VAE TAEHV at a sixteenth of its width; a window is two
    latent frames, one of them new, sampled in one step.
    """
    from magic141.tools.host import use_comfyui

    use_comfyui()
    import comfy.utils
    import folder_paths
    from magic141.model_patches.bridge.window.run import run_windows
    from magic141.model_patches.bridge.window.start import Sources
    from magic141.model_patches.window import run as window_run
    from magic141.model_patches.window.settings import WindowSettings
    from magic141.tests.support.tiny_run import tiny_models
    from magic141.tests.support.tiny_vae import open_thin_taehv

    comfy.utils.PROGRESS_BAR_ENABLED = False
    resident: list[int] = []
    original = window_run.window_facts

    def noting(*arguments):
        resident.append(resident_bytes())
        if len(resident) % 10 == 0:
            print(f"  window {len(resident)}, {resident[-1] / 2**20:.0f} MB", file=sys.stderr, flush=True)
        return original(*arguments)

    settings = WindowSettings(
        prompts="a",
        length=num_windows,
        length_in="windows",
        window_length=5,
        width=side_px,
        height=side_px,
        steps=1,
        guidance=None,
        seed=1,
        run_name="memory",
    )
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        models = tiny_models(vae=open_thin_taehv())
        folder_paths.output_directory = folder
        with mock.patch.object(window_run, "window_facts", noting):
            run_windows(models, settings, Sources(torch.rand(1, side_px, side_px, 3)))
    window_bytes = 4 * side_px * side_px * 3 * 4
    figures = {
        "rss_slope_share_of_window": slope(resident) / window_bytes,
        "rss_mb": resident[-1] / 2**20,
        "rss_windows": len(resident),
        "rss_side_px": side_px,
    }
    print(json.dumps(figures))


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

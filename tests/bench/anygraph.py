"""Any graph as a long video: memory, overhead, resume, stock templates, flashes, guidance, frames."""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from magic141.lab import world
from magic141.model_patches.window.flash import measure_flash
from magic141.tests.bench.support.any_graph_runs import (
    api_history_has_video,
    measure_memory,
    resume_identical_frames,
    run_templates,
    stock_save_ms,
)
from magic141.tests.bench.support.motion_gain import motion_gain
from magic141.tools.host import use_comfyui

PACK = Path(__file__).resolve().parents[2]
KNOWN_FRAMES, CLIP_FRAMES = 5, 13
FLASH, FLASH_LIMIT = 0.06, 0.03
SEEN_CHANGE = 0.05
"""Of the mean: a white picture cannot get brighter, nor a black one darker."""
SAME_FRAMES = (
    "tests/server/test_any_graph.py::test_the_embedded_graph_makes_the_frames_of_sliding_window_extend"
)
SAME_LATENTS = "tests/parity/test_other_families.py::test_two_experts_equal_two_stock_samplers"
CACHES = {"classic": ("--cache-classic",), "lru": ("--cache-lru", "10"), "none": ("--cache-none",)}


def flash_shares(count: int) -> dict[str, float]:
    """Change the brightness of made-up windows' first new frames by 6 %; return how many are found, and falsely."""
    scenes = world.sample_scenes(count, generator=torch.Generator().manual_seed(1141))
    clips = world.render_clip(scenes, CLIP_FRAMES).movedim(2, -1)
    found = [abs(seam(clip, visible_gain(clip, index))) > FLASH_LIMIT for index, clip in enumerate(clips)]
    false = [abs(seam(clip, 1.0)) > FLASH_LIMIT for clip in clips]
    return {"flash_found_share": sum(found) / count, "flash_false_share": sum(false) / count}


def visible_gain(clip: torch.Tensor, index: int) -> float:
    """Return a change up for every other window, or down where a picture cannot show it."""
    gain = 1 + FLASH if index % 2 else 1 - FLASH
    before, after = in_bytes(clip).mean(), in_bytes(clip * gain).mean()
    return gain if abs(after / before - 1) >= SEEN_CHANGE else 2 - gain


def seam(clip: torch.Tensor, gain: float) -> float:
    new = clip[KNOWN_FRAMES:].clone()
    new[:3] *= gain
    return measure_flash(in_bytes(clip[:KNOWN_FRAMES]), in_bytes(new))["flash_brightness"]


def in_bytes(frames: torch.Tensor) -> torch.Tensor:
    return frames.clamp(0, 1).mul(255).round() / 255


def passes(test: str) -> float:
    """Return 1 if a test of the pack passes, else 0."""
    command = [sys.executable, "-P", "-m", "pytest", "-q", test]
    return float(subprocess.run(command, cwd=PACK, stdout=sys.stderr, check=False).returncode == 0)


def memory_figures(num_windows: int) -> dict[str, float]:
    """Return memory, loads and time with the host's default cache, and memory with the other ones."""
    figures = measure_memory(num_windows)
    figures[f"model_loads_in_{num_windows}_windows"] = figures.pop("model_loads")
    for name, flags in CACHES.items():
        slope = measure_memory(max(10, num_windows // 2), *flags)["rss_slope_share_of_window"]
        figures[f"rss_slope_share_of_window_cache_{name}"] = slope
    return figures | stock_save_ms()


def main() -> int:
    parser = argparse.ArgumentParser(prog="dev.py bench anygraph", description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, required=True, help="file for the figures")
    parser.add_argument("--quick", action="store_true", help="few windows, one kill, one template")
    parser.add_argument(
        "--only", help="parts, by comma: flash, memory, api, motion, resume, templates, embedded, experts"
    )
    options = parser.parse_args()
    use_comfyui()
    quick = options.quick
    templates = ("03_video_wan2_2_14B_i2v_subgraphed",) if quick else None
    parts: dict[str, Callable[[], dict[str, float]]] = {
        "flash": lambda: flash_shares(200),
        "memory": lambda: memory_figures(12 if quick else 100),
        "api": lambda: {"api_history_has_video": api_history_has_video()},
        "motion": lambda: motion_gain(16 if quick else 100),
        "resume": lambda: resume_identical_frames(1 if quick else 5),
        "templates": lambda: run_templates(lambda text: print(text, file=sys.stderr), templates),
        "embedded": lambda: {"embedded_equals_extend": passes(SAME_FRAMES)},
        "experts": lambda: {"two_expert_equals_stock": passes(SAME_LATENTS)},
    }
    figures: dict[str, float] = {}
    for name in options.only.split(",") if options.only else parts:
        figures |= parts[name]()
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())

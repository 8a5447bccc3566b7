"""Long video: alive after 60 s, direction, seams, drift, resume after kills, memory, overhead; beside the naive way.

The naive way encodes the last frame again (pixel hand-over, k = 1) and anchors nothing. ``plain`` figures are of our
hand-over without color anchor and turn limit, to compare with the naive way like with like. Clips are made in batches
by the pack's own functions and read by the shapes world's own measures; speed, memory and resume are measured on the
node's own run. Rows of clips are kept beside the output (``.rows.json``): a run that was cut goes on, and one whose
code or weights changed starts again. Speed and memory are measured in every run. ``--table`` measures every hand-over
and anchor option, too.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from magic141.lab import world
from magic141.model_patches.window.plan import num_frames_of
from magic141.tests.bench.support.finished_rows import FinishedRows, sources_of
from magic141.tests.bench.support.window_costs import OURS, measure_memory, measure_speed, shapes_settings
from magic141.tests.bench.support.window_kills import measure_resume
from magic141.tests.support.shapes_models import shapes_models
from magic141.tools.host import use_comfyui

SCENES_SEED = 1143
"""Scenes that were first looked at after the 4-step LoRA that ships was trained."""
NAIVE = {"hand_over": "pixel", "overlap": 1}
LATENT_K2 = {"hand_over": "latent", "overlap": 2}
TABLE = {
    **{f"{way}_k{k}": {"hand_over": way, "overlap": k} for way in ("latent", "pixel") for k in (1, 2)},
    "latent_k2_turn_limit_color_anchor": OURS,
    "latent_k3": {"hand_over": "latent", "overlap": 3},
    "latent_k2_encoder_looks_at_first_picture": LATENT_K2 | {"encoder_looks_at": "first picture"},
    "latent_k2_color_anchor_half": LATENT_K2 | {"color_anchor": 0.5},
    "latent_k2_color_anchor_full": LATENT_K2 | {"color_anchor": 1.0},
}
COLUMNS = {
    "object_alive_named_60s": "alive, named",
    "object_alive_open_60s": "alive, open",
    "direction_persistence": "direction kept",
    "seams_ok_share": "seams ok",
    "drift_delta_e_60s": "drift, delta E",
    "error_delta_e_60s": "off the truth, delta E",
}


def measure_clips(opened, options: dict, *, count: int, seconds: float) -> dict[str, float]:
    """Make ``count`` named and ``count`` open clips one way and read them; say how it goes on."""
    from magic141.tests.bench.support.window_batch import ClipBatch
    from magic141.tests.bench.support.window_reading import ClipReader

    scenes, generator = drawn_scenes(count)
    is_open = torch.arange(2 * count) >= count
    captions = world.named_caption(scenes)[:count]
    captions += world.open_caption(scenes, generator=generator)[0][count:]
    starts = world.render_clip(scenes, 1)[:, 0].movedim(1, -1)
    reader, again, began = ClipReader(scenes, is_open), 0.0, time.monotonic()
    last_said = began
    with torch.inference_mode():
        batch = ClipBatch(*opened(), shapes_settings(**options), starts, captions)
        for number, (window, frames) in enumerate(batch.windows(seconds=seconds), start=1):
            reader.add(window, frames)
            again = batch.attempts / (number * len(starts)) - 1
            if time.monotonic() - last_said > 10:
                last_said = time.monotonic()
                made = (window.start_frame + window.num_new_frames) / world.FPS
                print(f"  {made:.1f} of {seconds:g} s of video, {last_said - began:.0f} s", flush=True)
        figures = reader.figures()
    figures |= {"windows_made_again_share": again}
    return figures | {"clips": 2.0 * count, "clip_seconds": seconds}


def drawn_scenes(count: int) -> tuple[world.Scenes, torch.Generator]:
    """Return twice ``count`` held-out scenes of one object, and what captions are drawn with then."""
    generator = torch.Generator().manual_seed(SCENES_SEED)
    return world.sample_scenes(2 * count, generator=generator, split="test", second_share=0.0), generator


def measure_truth(opened, *, count: int, seconds: float) -> dict[str, float]:
    """Return how far the colors of the true videos drift through the VAE alone."""
    from magic141.tests.bench.support.window_reading import true_drift

    scenes, first_frames = drawn_scenes(count)[0], num_frames_of(shapes_settings(**OURS).window_latent)
    drift = true_drift(opened()[1], scenes, first_frames=first_frames, seconds=seconds)
    return {"truth_drift_delta_e_60s": float(drift.mean())}


def measure_all(
    rows: FinishedRows, *, count: int, seconds: float, table: int, quick: bool
) -> dict[str, float]:
    """Return every figure; ``table``: named and open clips a row of the table, 0 for no table."""
    opened = once(shapes_models)

    def row_name(name: str, count: int) -> str:
        return f"{name}, {2 * count} clips of {seconds:g} s of scenes {SCENES_SEED}"

    def clips(name: str, options: dict, count: int) -> dict[str, float]:
        def measure() -> dict[str, float]:
            return measure_clips(opened, options, count=count, seconds=seconds)

        return rows.get(row_name(name, count), measure)

    ours, naive = clips("latent_k2_turn_limit_color_anchor", OURS, count), clips("pixel_k1", NAIVE, count)
    plain = clips("latent_k2", LATENT_K2, count)
    figures = ours | {
        f"naive_{name}": value for name, value in naive.items() if name in COLUMNS or "alive" in name
    }
    figures |= {f"plain_{name}": value for name, value in plain.items() if name in COLUMNS or "alive" in name}
    figures |= rows.get(row_name("truth", count), lambda: measure_truth(opened, count=count, seconds=seconds))
    resume_seconds = 5.0 if quick else 8.0
    figures |= rows.get(f"resume, {resume_seconds:g} s", lambda: measure_resume(seconds=resume_seconds))
    if table:
        measured = {name: clips(name, options, table) for name, options in TABLE.items()}
        figures |= {f"{row}.{name}": value[name] for row, value in measured.items() for name in COLUMNS}
    return figures | measure_costs(opened, quick=quick)


def measure_costs(opened, *, quick: bool) -> dict[str, float]:
    """Return speed and memory: measured in every run, since an earlier run's would say nothing of this one."""
    figures = in_inference(lambda: measure_speed(opened()[0], seconds=5.0))
    return figures | measure_memory(num_windows=100, side_px=256 if quick else 512)


def once(make: Callable[[], object]) -> Callable[[], object]:
    """Return a function that makes its value at the first call, in inference mode, and keeps it."""
    made: list[object] = []

    def get() -> object:
        if not made:
            made.append(in_inference(make))
        return made[0]

    return get


def in_inference(function: Callable):
    with torch.inference_mode():
        return function()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="where the figures go; finished rows are kept beside it")
    parser.add_argument(
        "--quick", action="store_true", help="6 + 6 clips of 20 s, memory at 256 px; a few minutes"
    )
    parser.add_argument("--table", action="store_true", help="also every hand-over and anchor option")
    parser.add_argument("--clips", type=int, help="named clips, and as many open ones (20; with --quick 6)")
    parser.add_argument("--table-clips", type=int, default=4, help="the same for a row of the table (4)")
    parser.add_argument("--seconds", type=float, help="length of a clip (60; with --quick 20)")
    options = parser.parse_args()
    use_comfyui()
    count = options.clips or (6 if options.quick else 20)
    output = options.json or Path(tempfile.gettempdir()) / "magic141_window.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    rows = FinishedRows(output.with_suffix(".rows.json"), sources_of(Path(__file__)))
    figures = measure_all(
        rows,
        count=count,
        seconds=options.seconds or (20.0 if options.quick else 60.0),
        table=min(count, options.table_clips) if options.table else 0,
        quick=options.quick,
    )
    text = json.dumps(figures, indent=1)
    print(text)
    output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Long video: alive after 60 s, direction, seams, drift, resume after kills, memory, overhead; beside the naive way.

Everything but the batch of clips runs through the node's own functions. The naive way encodes the last frame again
(pixel hand-over, k = 1) and anchors nothing. Frames are read by the shapes world's own measures.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from magic141.embedded import world
from magic141.embedded.world.measure import true_mass_px
from magic141.model_patches.metrics import delta_e, srgb_to_lab
from magic141.tests.support.host import use_comfyui
from torch import Tensor

MODELS = Path(__file__).resolve().parents[2] / "embedded" / "models"
LATENT_SCALE = 0.476986
KILLS = 3


def settings_for(hand_over: str, overlap: int, **options):
    from magic141.model_patches.bridge.window import WindowSettings

    side = world.SIDE_PX
    return WindowSettings(side, side, 4, overlap, hand_over=hand_over, guidance=None, **options)


def ours():
    """The defaults the embedded workflows ship with."""
    return settings_for("latent", 2)


def naive():
    return settings_for("pixel", 1)


def table() -> dict[str, object]:
    """Every hand-over and anchor option, by the name its figures carry."""
    rows = {
        f"{hand_over}_k{k}": settings_for(hand_over, k)
        for hand_over in ("latent", "pixel", "mixed")
        for k in (1, 2, 3)
    }
    for name, options in {
        "latent_anchor_half": {"latent_anchor": 0.5},
        "latent_anchor_full": {"latent_anchor": 1.0},
        "color_anchor_half": {"color_anchor": 0.5},
        "color_anchor_full": {"color_anchor": 1.0},
        "first_frame_context": {"first_frame_context": True},
    }.items():
        rows[f"latent_k2_{name}"] = replace(ours(), **options)
    return rows


def load_models():
    """Return the embedded Models and a decoder of the VAE's narrow network."""
    import comfy.sd
    import comfy.utils
    from magic141.model_patches.bridge.encoders import load_encoders
    from magic141.model_patches.bridge.loading import load_magic141_model
    from magic141.model_patches.bridge.window import Models
    from magic141.tests.support.narrow_vae import StreamingDecoder, narrow_network

    weights = comfy.utils.load_torch_file(str(MODELS / "vae" / "magic141_shapes_vae.safetensors"))
    vae = comfy.sd.VAE(sd=dict(weights))
    vae.first_stage_model.show_progress_bar = False
    text = MODELS / "text_encoders"
    encoders = load_encoders(text / "magic141_shapes_llava", text / "magic141_shapes_clip")
    model, _ = load_magic141_model(MODELS / "diffusion_models" / "magic141_shapes_ti2v.safetensors")
    return Models(model, encoders, vae), StreamingDecoder(narrow_network(weights), LATENT_SCALE)


# --- what long clips show ---------------------------------------------------------------------------------


def colour_drift(frames: Tensor, scenes: world.Scenes) -> Tensor:
    """Return the mean delta E of background and object against the truth, (B,); frames (B, T, H, W, 3) in [0, 1]."""
    truth = world.render_clip(scenes, frames.shape[1])
    background = torch.tensor(list(world.BACKGROUNDS.values()))[scenes.background]
    colour = torch.tensor(list(world.COLOURS.values()))[scenes.colour]
    seen_background = frames.flatten(1, 3).median(1).values
    near = (frames - colour[:, None, None, None]).norm(dim=-1)
    far = (frames - background[:, None, None, None]).norm(dim=-1)
    weight = ((near < far) & (near < 0.35)).float()[..., None]
    seen_colour = (frames * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3)).clamp_min(1)
    gone = weight.sum((1, 2, 3, 4)) < 0.2 * true_mass_px(scenes) * truth.shape[1]
    seen_colour = torch.where(gone[:, None], seen_background, seen_colour)
    shifts = [
        delta_e(srgb_to_lab(a), srgb_to_lab(b))
        for a, b in ((seen_background, background), (seen_colour, colour))
    ]
    return torch.stack(shifts).mean(0)


def alive(frames: Tensor, scenes: world.Scenes) -> Tensor:
    """Tell whether the object is there with its colour and shape in most of these frames, (B,) bool."""
    reading = world.read_clip(frames.movedim(-1, 2))
    mass = true_mass_px(scenes)[:, None]
    present = (reading.mass_px > 0.5 * mass) & (reading.mass_px < 1.7 * mass)
    right = present & (reading.colour == scenes.colour[:, None]) & (reading.shape == scenes.shape[:, None])
    return right.float().mean(1) >= 0.5


def centroid_track(frames: Tensor) -> Tensor:
    """Return (B, T, 2), read in pieces to bound memory; frames (B, T, H, W, 3) as bytes."""
    parts = [
        world.read_clip(f.float().movedim(-1, 2) / 255, with_shape="none").centroid_px
        for f in frames.split(96, 1)
    ]
    return torch.cat(parts, 1)


def good_seams(track: Tensor, seams: list[int]) -> Tensor:
    """Tell of every seam of every clip whether its motion step is within 0.5 to 2 times the steps beside it."""
    half = world.SIDE_PX / 2
    steps = ((track.diff(dim=1) + half) % world.SIDE_PX - half).norm(dim=-1)
    good = []
    for seam in seams:
        across = steps[:, seam - 1]
        beside = (
            torch.cat([steps[:, max(0, seam - 5) : seam - 1], steps[:, seam : seam + 4]], 1).median(1).values
        )
        good.append((across >= 0.5 * beside) & (across <= 2 * beside))
    return torch.stack(good, 1)


def measure_clips(models, decoder, settings, *, count: int, seconds: float, name: str) -> dict[str, float]:
    """Make named and open clips one way and read them."""
    from magic141.tests.support.window_batch import make_long_clips

    generator = torch.Generator().manual_seed(141)
    scenes = world.sample_scenes(2 * count, generator=generator, split="test", second_share=0.0)
    is_open = torch.arange(2 * count) >= count
    open_captions, _ = world.open_caption(scenes, generator=generator)
    captions = [
        o if later else n
        for n, o, later in zip(world.named_caption(scenes), open_captions, is_open, strict=True)
    ]
    starts = world.render_clip(scenes, 1)[:, 0].movedim(1, -1)
    began = time.monotonic()

    def report(text: str) -> None:
        print(f"  {name}: {text}, {time.monotonic() - began:.0f} s", flush=True)

    clips = make_long_clips(models, decoder, settings, starts, captions, seconds=seconds, report=report)
    track = centroid_track(clips.frames)
    last = clips.frames[:, -world.FPS :].float() / 255
    first_motion, last_motion = (
        world.motion_of(track[:, :13])[0] // 2,
        world.motion_of(track[:, -13:])[0] // 2,
    )
    lives = alive(last[:, ::4], scenes)
    return {
        "object_alive_60s": float(lives.float().mean()),
        "object_alive_named": float(lives[~is_open].float().mean()),
        "object_alive_open": float(lives[is_open].float().mean()),
        "direction_persistence": float((first_motion == last_motion)[is_open].float().mean()),
        "seams_ok_share": float(good_seams(track, clips.seams).float().mean()),
        "drift_delta_e_60s": float(colour_drift(last, scenes).mean()),
    }


# --- the run itself ---------------------------------------------------------------------------------------


def run_in(folder: Path, *, seconds: float, name: str):
    """Make one clip through the node's own run, into ``folder``."""
    import folder_paths
    from magic141.model_patches.bridge.window_run import Request, run_windows

    folder_paths.output_directory = str(folder)
    models, _ = load_models()
    scenes = world.sample_scenes(1, generator=torch.Generator().manual_seed(5))
    image = world.render_clip(scenes, 1)[:, 0].movedim(1, -1)
    request = Request(
        prompts=world.named_caption(scenes)[0], length=seconds, in_windows=False, fps=world.FPS, seed=3, run_name=name,
        codec="ffv1 lossless", image=image,
    )  # fmt: skip
    return run_windows(models, ours(), request)


def child(folder: str, seconds: str, name: str) -> None:
    """Run in a process of its own: what gets killed."""
    use_comfyui()
    with torch.inference_mode():
        print(f"DONE {run_in(Path(folder), seconds=float(seconds), name=name).video}", flush=True)


def measure_resume(*, seconds: float) -> dict[str, float]:
    """Kill a run at random moments, finish it, and compare its frames with an undisturbed run's."""
    from magic141.model_patches.store.video_source import read_frames

    chance = random.Random(141)
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(KILLS):
            process = start_child(folder, seconds, "killed")
            wait_for_windows(process, Path(folder), chance.randint(1, 3), extra_s=chance.random())
            process.kill()
            process.wait()
        videos = [finish_child(folder, seconds, name) for name in ("killed", "whole")]
        killed, whole = (torch.stack(list(read_frames(video))) for video in videos)
    return {"resume_identical_frames": float(killed.shape == whole.shape and torch.equal(killed, whole))}


def start_child(folder: str, seconds: float, name: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "magic141.tests.bench.window", "--child", folder, str(seconds), name]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def finish_child(folder: str, seconds: float, name: str) -> Path:
    out, _ = start_child(folder, seconds, name).communicate()
    return Path(next(line.removeprefix("DONE ") for line in out.splitlines() if line.startswith("DONE ")))


def wait_for_windows(process: subprocess.Popen, folder: Path, count: int, *, extra_s: float) -> None:
    """Wait until a run has finished ``count`` windows more, and a moment."""

    def finished() -> int:
        return len(list(folder.rglob("windows/*.json")))

    wanted = finished() + count
    while finished() < wanted and process.poll() is None:
        time.sleep(0.05)
    time.sleep(extra_s)


def measure_speed(*, seconds: float) -> dict[str, float]:
    """Time one real run, and what it spends beside sampling, conditioning, decoding and encoding."""
    from magic141.tests.support.window_costs import timed_parts

    with tempfile.TemporaryDirectory() as folder, timed_parts() as spent:
        began = time.monotonic()
        outcome = run_in(Path(folder), seconds=seconds, name="speed")
        total = time.monotonic() - began
    windows = outcome.report["windows"]
    inside = sum(window["seconds"] for window in windows)
    known = sum(spent.values())
    return {
        "seconds_per_video_second": inside / seconds,
        "overhead_ms_per_window": 1000 * (inside - known) / len(windows),
        "start_and_join_s": total - inside,
        **{f"{part}_ms_per_window": 1000 * value / len(windows) for part, value in spent.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter clips; a few minutes")
    parser.add_argument("--table", action="store_true", help="every hand-over and anchor option")
    parser.add_argument("--child", nargs=3, metavar=("FOLDER", "SECONDS", "NAME"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(*options.child)
        return
    use_comfyui()
    from magic141.tests.support.window_costs import measure_memory

    count, seconds = (4, 12.0) if options.quick else (20, 60.0)
    with torch.inference_mode():
        models, decoder = load_models()
        figures = {"clip_seconds": seconds, "clips": 2.0 * count}
        figures |= measure_clips(models, decoder, ours(), count=count, seconds=seconds, name="ours")
        way = measure_clips(models, decoder, naive(), count=count, seconds=seconds, name="naive")
        figures |= {f"naive_{name}": value for name, value in way.items()}
        if options.table:
            for row, settings in table().items():
                measured = measure_clips(models, decoder, settings, count=count, seconds=seconds, name=row)
                figures |= {f"{row}.{name}": value for name, value in measured.items()}
        figures |= measure_speed(seconds=3.0)
    figures |= measure_memory(num_windows=100, side_px=256 if options.quick else 512)
    figures |= measure_resume(seconds=3.0)
    text = json.dumps(figures, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Clip Quality: agreement with the published definitions, with the eye's order in the shapes world, and its speed.

Measures with a model are compared on tiny random models, which show the formula and not the taste of the real ones. The
order is that of a clip and the same clip made worse: blurred, flickering, frozen, drifting in color, or with another
object than the prompt says.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import torch
from magic141.tools.host import use_comfyui
from torch import Tensor

use_comfyui()

import folder_paths
from magic141.lab import world
from magic141.model_patches.bridge.judge.clips import Clip, open_video
from magic141.model_patches.bridge.judge.files import CATEGORY
from magic141.model_patches.bridge.judge.models import ClipInputs, Models
from magic141.model_patches.bridge.judge.run import judge_clip
from magic141.model_patches.judge.catalog import MEASURES
from magic141.model_patches.judge.sets import Inception, frechet_distance
from magic141.model_patches.measures import delta_e
from magic141.tests.support.published_comparison import FPS, PROMPT, by_definition, moving_video
from magic141.tests.support.sharma_pairs import PAIRS
from magic141.tests.support.tiny_judges import inception_weights, write_judges

SHAPES_CLIP = Path(__file__).resolve().parents[2] / "embedded/models/text_encoders/magic141_shapes_clip"
FRAMES, WIDTH, HEIGHT, VIDEO_FPS = 24, 960, 544, 24


def use_models(folder: Path) -> Models:
    """Return the models of a folder, and of no other."""
    folder_paths.folder_names_and_paths[CATEGORY] = ([str(folder)], set())
    return Models()


def judged(clip: Clip, models: Models, inputs: ClipInputs = ClipInputs()) -> dict[str, float]:  # noqa: B008 - it is frozen
    return judge_clip(clip, inputs, models, progress=lambda done, total: None).values


def formula_errors(work: Path) -> dict[str, float]:
    """Return the largest error of a measure, relative where it is above 1, over three clips."""
    models, errors = use_models(write_judges(work / "judges")), {}
    for seed, (height, width) in enumerate([(128, 128), (136, 180), (180, 136)]):
        video = moving_video(count=7, height=height, width=width, seed=seed)
        start = moving_video(count=1, height=height, width=width, seed=seed + 9)
        inputs = ClipInputs(start.float() / 255, PROMPT)
        found = judged(Clip(video.float() / 255, FPS, 0), models, inputs)
        for name, value in by_definition(work / "judges", video, start).items():
            error = abs(found[name] - value) / max(1.0, abs(value))
            errors[name] = max(error, errors.get(name, 0.0))
    return errors


def ciede2000_error() -> float:
    pairs = [(torch.tensor(a).double(), torch.tensor(b).double(), expected) for a, b, expected in PAIRS]
    return max(abs(float(delta_e(a, b)) - expected) for a, b, expected in pairs)


def fid_error(work: Path) -> float:
    """Return the relative difference of FID from torchmetrics', with the same random Inception."""
    from torchmetrics.image.fid import FrechetInceptionDistance, NoTrainInceptionV3

    torch.save(inception_weights(), work / "inception.pth")
    ours = Inception(torch.load(work / "inception.pth", weights_only=True))
    metric = FrechetInceptionDistance(NoTrainInceptionV3("bench", ["2048"], str(work / "inception.pth")))
    sets = [moving_video(count=8, height=90, width=120, seed=seed).movedim(-1, 1) for seed in (0, 1)]
    for pictures, real in zip(sets, (True, False), strict=True):
        metric.update(pictures, real=real)
    with torch.no_grad():
        distance = frechet_distance(*(ours(pictures.float()) for pictures in sets))
    return abs(distance / float(metric.compute()) - 1)


def blurred(clip: Tensor) -> Tensor:
    return torch.nn.functional.avg_pool2d(clip.movedim(-1, 1), 3, 1, 1, count_include_pad=False).movedim(
        1, -1
    )


def flickering(clip: Tensor) -> Tensor:
    return clip * (1 - 0.06 * (torch.arange(len(clip)) % 2)).view(-1, 1, 1, 1)


def frozen(clip: Tensor) -> Tensor:
    return torch.cat([clip[: len(clip) // 2], clip[len(clip) // 2 :][:1].expand(len(clip) // 2, -1, -1, -1)])


def drifting(clip: Tensor) -> Tensor:
    share = torch.linspace(0, 1, len(clip)).view(-1, 1, 1, 1)
    return clip * (1 - share * torch.tensor([0.0, 0.15, 0.3]))


DEGRADED: dict[str, Callable[[Tensor], Tensor]] = {
    "sharpness": blurred,
    "temporal_flickering": flickering,
    "still_s": frozen,
    "color_drift": drifting,
}
"""The measure that is made for each fault; of a wrong object it is ``prompt_fit``."""


def order_agreement(pairs: int, work: Path) -> dict[str, float]:
    """Return the share of pairs in which the measure made for a fault ranks the degraded copy below the original."""
    folder = work / "shapes"
    folder.mkdir()
    (folder / "clip-vit-base-patch32").symlink_to(SHAPES_CLIP)
    models = use_models(folder)
    scenes = world.sample_scenes(pairs, generator=torch.Generator().manual_seed(3), second_share=0.0)
    clips = world.render_clip(scenes, FRAMES).movedim(2, -1)
    captions = world.named_caption(scenes)
    kinds = [*DEGRADED, "prompt_fit"]
    agreed: dict[str, list[bool]] = {kind: [] for kind in kinds}
    for i in range(pairs):
        kind, inputs = kinds[i % len(kinds)], ClipInputs(prompt=captions[i])
        other = next(j for j in range(pairs) if _is_another_object(scenes, i, j))
        worse = clips[other] if kind == "prompt_fit" else DEGRADED[kind](clips[i])
        good, bad = (judged(Clip(each, world.FPS, 0), models, inputs)[kind] for each in (clips[i], worse))
        agreed[kind].append((good - bad) * MEASURES[kind].better > 0)
    every = [each for found in agreed.values() for each in found]
    return {"order_agreement": sum(every) / len(every), "order_pairs": len(every)} | {
        f"order_agreement_{kind}": sum(found) / len(found) for kind, found in agreed.items()
    }


def _is_another_object(scenes: world.Scenes, one: int, other: int) -> bool:
    return bool(scenes.shape[one] != scenes.shape[other] and scenes.colour[one] != scenes.colour[other])


def write_long_video(path: Path, seconds: float) -> None:
    ground = np.random.default_rng(0).integers(0, 255, (HEIGHT // 16, WIDTH // 8, 3), dtype=np.uint8)
    ground = ground.repeat(16, 0).repeat(16, 1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=VIDEO_FPS, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for i in range(round(seconds * VIDEO_FPS)):
            left = i % WIDTH
            frame = np.ascontiguousarray(ground[:, left : left + WIDTH])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def measure_long(path: Path) -> None:
    """Judge a video in this process and print the seconds and the memory it took."""
    models = use_models(path.parent / "none")
    start, before = time.perf_counter(), _peak_bytes()
    values = judged(open_video(path, VIDEO_FPS), models)
    assert values["motion"] > 0
    took = time.perf_counter() - start
    print(json.dumps({"seconds": took, "peak_rss_mb": _peak_bytes() / 1e6, "before_mb": before / 1e6}))


def _peak_bytes() -> int:
    """Return the peak of this program; ``getrusage`` would count what was there before it began, too."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))


def long_clip(seconds: float, work: Path) -> dict[str, float]:
    """Return time and memory of a long clip; measures without a model, in a process of its own."""
    write_long_video(work / "long.mp4", seconds)
    command = [sys.executable, "-m", __spec__.name, "--json", "-", "--child", str(work / "long.mp4")]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = json.loads(out.splitlines()[-1])
    return {
        "judge_seconds_per_video_second": found["seconds"] / seconds,
        "peak_rss_mb": found["peak_rss_mb"],
        "peak_rss_over_start_mb": found["peak_rss_mb"] - found["before_mb"],
        "long_clip_s": seconds,
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="dev.py bench judge", description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, required=True, help="file for the figures")
    parser.add_argument(
        "--quick", action="store_true", help="few pairs and a short clip: does it run at all?"
    )
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        measure_long(options.child)
        return 0
    with tempfile.TemporaryDirectory(prefix="magic141-bench-") as temporary:
        work = Path(temporary)
        errors = formula_errors(work)
        figures = {
            "vbench_formula_error_max": max(errors[name] for name in errors if name != "start_lpips"),
            "ciede2000_error_max": ciede2000_error(),
            "lpips_error": errors["start_lpips"],
            "fid_relative_error": fid_error(work),
            **order_agreement(20 if options.quick else 200, work),
            **long_clip(2 if options.quick else 60, work),
        }
    text = json.dumps(figures, indent=2)
    options.json.write_text(text + "\n", encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

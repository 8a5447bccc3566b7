"""The five nodes that keep work on disk, as jobs that can be disturbed: what they run, leave and must not lose."""

import hashlib
import json
import re
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from magic141.tests.support.distill_graphs import distill as distill_graph
from magic141.tests.support.tiny_dit import tiny_dit
from magic141.tests.support.tiny_encoders import write_clip_folder
from magic141.tests.support.tiny_run import tiny_models
from magic141.tests.support.tiny_vae import open_thin_taehv
from magic141.tests.support.tiny_videos import write_captioned, write_video
from PIL import Image

NUM_PICTURES = 40
NUM_VIDEOS = 6
NUM_WINDOWS = 4
RUNS, SET = "output/magic141_runs/*", "models/*sets/set"
LEFTOVER = re.compile(r"\.part(\.|$)|\.tmp|\.old$")


@dataclass(frozen=True)
class Place:
    """Folders of one case: what nodes read lies in ``shared``, what they write in ``case``."""

    shared: Path
    case: Path

    def enter(self) -> None:
        """Make them the host's folders, in this process."""
        import folder_paths

        for name in ("output", "models/diffusion_models", "models/loras", "temp"):
            (self.case / name).mkdir(parents=True, exist_ok=True)
        folder_paths.input_directory = str(self.shared / "input")
        folder_paths.output_directory = str(self.case / "output")
        folder_paths.models_dir = str(self.case / "models")
        weights = [str(self.case / "models/diffusion_models"), str(self.shared / "weights")]
        folder_paths.folder_names_and_paths = {
            "text_encoders": ([str(self.shared / "encoders")], set()),
            "clip_vision": ([], set()),
            "diffusion_models": (weights, {".safetensors", ".pth"}),
            "loras": ([str(self.case / "models/loras")], {".safetensors"}),
            "magic141_training_sets": (
                [str(self.case / "models/sets"), str(self.shared / "sets")],
                set(),
            ),
        }
        folder_paths.filename_list_cache = {}


@dataclass(frozen=True)
class Job:
    """A node's work.

    run: does it in the folders that were entered; returns a report. result: digests of what it made. items: what is
    finished for good, by name, while the work goes on; equal values before and after mean it was not made again.
    """

    name: str
    run: Callable[[], Any]
    result: Callable[[Path], dict[str, str]]
    items: Callable[[Path], dict[str, Any]]
    state: tuple[str, ...] = field(default=())
    """Patterns of the files that the next run goes on from."""
    taken_over: Callable[[str], int] | None = None
    """How many items a report says were taken over, or at which step the run went on."""

    def work(self, place: Place) -> Callable[[], Any]:
        """Return the work in a place, as a child does it."""

        def do() -> Any:
            place.enter()
            with torch.inference_mode():
                return self.run()

        return do


def leftovers(case: Path) -> list[str]:
    """Return the files that no finished run leaves."""
    return [path.relative_to(case).as_posix() for path in case.rglob("*") if LEFTOVER.search(path.name)]


def write_inputs(shared: Path) -> None:
    """Write pictures, videos, weights and encoders for all jobs."""
    from safetensors.torch import save_file

    write_pictures(shared / "input" / "pictures", NUM_PICTURES)
    for number in range(NUM_VIDEOS):
        write_captioned(
            shared / "input" / "videos" / f"{number}.mp4", f"video {number}", num_frames=10 + number
        )
    write_video(shared / "input" / "long.mp4", num_frames=240, width=64, height=64, fps=24)
    (shared / "weights").mkdir()
    save_file(tiny_dit(33, hidden_size=256), shared / "weights" / "dit.safetensors")
    write_clip_folder(shared / "encoders" / "tiny_clip")


def write_pictures(folder: Path, count: int) -> None:
    """Write small pictures of noise into three subfolders."""
    generator = torch.Generator().manual_seed(0)
    for number in range(count):
        path = folder / f"{number % 3}" / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = torch.randint(0, 256, (48, 64, 3), dtype=torch.uint8, generator=generator)
        Image.fromarray(noise.numpy()).save(path)


def make_jobs() -> list[Job]:
    """Return the jobs, their models opened once."""
    from magic141 import nodes  # noqa: F401  children then find all modules loaded
    from magic141.model_patches.bridge.window.make import Models
    from magic141.tests.support import tiny_windows

    with torch.inference_mode():
        opened = tiny_models()
        models = Models(opened.model, opened.encoders, open_thin_taehv())
    prompts = "\n".join("abcdefgh"[:NUM_WINDOWS])

    def extend() -> Any:
        return tiny_windows.run(models, prompts=prompts, length=NUM_WINDOWS).report["summary"]

    return [
        Job(
            "extend",
            guarded(extend),
            videos_of_runs(),
            windows_of_runs(),
            ("output/magic141_runs/*/run.json", "output/magic141_runs/*/*/*"),
        ),
        Job("quantize", _quantize, weights("diffusion_models"), lambda case: {}),
        Job("index", _index, index_rows, index_rows, ("models/magic141_image_index/*/*",), rows_kept),
        Job(
            "set",
            guarded(lambda: _build_set(models)),
            set_shards,
            shards,
            ("models/sets/*/*", "models/sets/*/*/*"),
        ),
        Job(
            "distill",
            guarded(lambda: _distill(models)),
            weights("loras"),
            checkpoints,
            ("output/magic141_distill/*/*", "output/magic141_distill/*/checkpoints/*/*"),
            resumed_step,
        ),
    ]


def guarded(function: Callable[[], Any]) -> Callable[[], Any]:
    """Return work that passes through what wraps every node."""
    from comfy_api.latest import io
    from magic141.nodes.refusals import say_refusals

    node = type("Work", (io.ComfyNode,), {"execute": classmethod(lambda cls: function())})
    return say_refusals(node).execute


def _quantize() -> Any:
    from magic141.nodes.quantize_file import QuantizeFile
    from magic141.nodes.refusals import say_refusals

    QuantizeFile.hidden = _Hidden()
    return (
        say_refusals(QuantizeFile)
        .execute(
            "dit.safetensors",
            "small",
            "int8 weight-only (paper)",
            "per row",
            "quanto, diffusers names",
            True,
            False,
        )
        .result[1]
    )


def _index() -> Any:
    from magic141.nodes.image_index import BuildImageIndex
    from magic141.nodes.refusals import say_refusals

    return (
        say_refusals(BuildImageIndex).execute("input/pictures", "pictures", "tiny_clip", 2, False).result[1]
    )


def _build_set(models: Any) -> Any:
    from comfy_execution.graph import DynamicPrompt
    from magic141.nodes.training_set import BuildTrainingSet

    graph = DynamicPrompt({"1": {"class_type": "Magic141BuildTrainingSet", "inputs": {}}})
    BuildTrainingSet.hidden = SimpleNamespace(unique_id="1", dynprompt=graph)
    cut = {"width": 32, "height": 32, "num_frames": 5, "fps": 24.0, "max_windows": 2}
    wired = ("input/videos", "set", models.encoders, models.vae)
    return BuildTrainingSet.execute(*wired, "width x height", True, False, **cut).result[1]


def _distill(models: Any) -> Any:
    from magic141.nodes.distill import DistillToFewSteps

    settings = distill_graph(training_set="ready", save_every=1, sample_every=3)["distill"]["inputs"]
    wired = {name: value for name, value in settings.items() if name not in ("model", "vae")}
    DistillToFewSteps.hidden = _Hidden()
    return DistillToFewSteps.execute(model=models.model, vae=models.vae, **wired).result[4]


class _Hidden:
    unique_id = None
    prompt = None


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def videos_of_runs(runs: str = RUNS) -> Callable[[Path], dict[str, str]]:
    """Return a function that reads the frames of the finished videos."""

    def read(case: Path) -> dict[str, str]:
        from magic141.tests.support.tiny_windows import frames_of

        found = sorted(case.glob(f"{runs}/video_*.mkv"))
        return {path.name: _sha256(frames_of(path).numpy().tobytes()) for path in found}

    return read


def windows_of_runs(runs: str = RUNS) -> Callable[[Path], dict[str, Any]]:
    """Return a function that tells when each finished window was written."""

    def read(case: Path) -> dict[str, Any]:
        found = case.glob(f"{runs}/windows/*.json")
        return {path.name: path.stat().st_mtime_ns for path in found if path.stem.isdigit()}

    return read


def weights(category: str) -> Callable[[Path], dict[str, str]]:
    from safetensors.torch import load_file

    def read(case: Path) -> dict[str, str]:
        made = {}
        for path in (case / "models" / category).glob("*.safetensors"):
            for name, tensor in load_file(path).items():
                made[f"{path.name}/{name}"] = _sha256(
                    tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
                )
        return made

    return read


def index_rows(case: Path) -> dict[str, Any]:
    """Return every picture of an index with its vector."""
    path = case / "models/magic141_image_index/pictures/index.sqlite"
    if not path.is_file():
        return {}
    database = sqlite3.connect(":memory:")
    database.deserialize(path.read_bytes())
    rows = database.execute("SELECT path, sha256, position FROM pictures").fetchall()
    (about,) = database.execute("SELECT * FROM about").fetchone()
    about = json.loads(about)
    size = 2 * len(about["probe"])
    vectors = (path.parent / about["vectors"]).read_bytes()
    return {str(name): f"{sha256} {_sha256(vectors[n * size : (n + 1) * size])}" for name, sha256, n in rows}


def rows_kept(report: str) -> int:
    """Return how many pictures a build of an index says it kept."""
    (kept,) = re.findall(r"(\d+) kept", report)
    return int(kept)


def set_shards(case: Path) -> dict[str, str]:
    """Return the tensors of a set's shards, and its captions."""
    from safetensors.torch import load_file

    made, manifests = {}, list(case.glob(f"{SET}/set.json"))
    for path in case.glob(f"{SET}/*/*.safetensors"):
        for name, tensor in load_file(path).items():
            made[f"{path.name}/{name}"] = _sha256(tensor.view(torch.uint8).numpy().tobytes())
    videos = json.loads(manifests[0].read_text())["videos"] if manifests else []
    return made | {video["path"]: json.dumps(video["captions"]) for video in videos}


def shards(case: Path) -> dict[str, Any]:
    """Tell when each shard of a set was written."""
    found = case.glob(f"{SET}/*/*.safetensors")
    return {path.name: path.stat().st_mtime_ns for path in found if not LEFTOVER.search(path.name)}


def checkpoints(case: Path) -> dict[str, Any]:
    """Return the number of steps that are saved: a later run goes on behind them."""
    found = (case / "output/magic141_distill").glob("*/checkpoints/step-*")
    steps = [int(path.name[5:]) for path in found if path.name[5:].isdigit()]
    return {"steps": max(steps)} if steps else {}


def resumed_step(report: str) -> int:
    """Return the step at which a training says that it went on; one that was finished did nothing again."""
    found = re.findall(r"resumed at step (\d+)", report)
    return int(found[0]) if found else 0

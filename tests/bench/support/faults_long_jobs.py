"""Nodes that can run longer than a second, beside those that keep work: on inputs that take them that long."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import torch
from magic141.tests.support.tiny_dit import TEXT_WIDTH, tiny_dit
from magic141.tests.support.tiny_encoders import write_llava_folder
from magic141.tests.support.tiny_videos import write_captioned
from PIL import Image

from .faults_jobs import Job, guarded, write_pictures

LAYERS = 150
"""Of the language model: every layer is small, and all together take a while to load and to call."""
SOUND_S = 600
NUM_VIDEOS, NUM_PICTURES = 30, 900
LARGE_PX = 3000


def write_long_inputs(shared: Path) -> None:
    """Write what takes the nodes a while."""
    from safetensors.torch import save_file

    write_llava_folder(shared / "encoders" / "deep_llava", num_layers=LAYERS)
    save_file(tiny_dit(33, hidden_size=1536), shared / "weights" / "large.safetensors")
    write_pictures(shared / "input" / "many", NUM_PICTURES)
    noise = np.random.default_rng(0).integers(0, 256, (LARGE_PX, LARGE_PX, 3), dtype=np.uint8)
    for number in range(6):
        path = shared / "input" / "large" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.roll(noise, number)).save(path, compress_level=1)
    for number in range(NUM_VIDEOS):
        path = shared / "input" / "clips" / f"{number}.mp4"
        write_captioned(path, f"video {number}", num_frames=48, width=320, height=240)
    write_sounding(shared / "input" / "sounding.mp4")


def write_sounding(path: Path) -> None:
    """Write a video of a few frames whose sound goes on for minutes, as a container of any length may hold it."""
    rate, samples = 16000, 1024
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=24, options={"crf": "30"})
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        sound = container.add_stream("aac", rate=rate, layout="mono")
        for number in range(24):
            picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), number, np.uint8), format="rgb24")
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
        for number in range(SOUND_S * rate // samples):
            frame = av.AudioFrame.from_ndarray(
                np.zeros((1, samples), np.float32), format="fltp", layout="mono"
            )
            frame.sample_rate, frame.pts = rate, number * samples
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))


def long_jobs() -> list[Job]:
    """Return jobs of nodes that take long and keep nothing, or whose work is checked elsewhere."""
    from magic141.nodes.distill import DistillToFewSteps  # noqa: F401  children find it loaded

    return [
        _job("continue", lambda: _extend(video="long.mp4")),
        _job("continue a cut", lambda: _extend(video="long.mp4", start_s=1.0, seconds=8.0)),
        _job("continue with sound", lambda: _extend(video="sounding.mp4")),
        _job("drift", lambda: _drift(24)),
        _job("drift, one window", lambda: _drift(10_000)),
        _job("load encoders", _load_encoders),
        _job("encode", _encode),
        _job("sample", _sample),
        _job("quantize to ComfyUI", lambda: _quantize("ComfyUI", "int8 weight-only (paper)", "per row")),
        _job("quantize per tensor", lambda: _quantize("ComfyUI", "int8 weight-only (paper)", "per tensor")),
        _job("translate", _translate),
        _job("quantize loaded", _quantize_loaded),
        _job("compare", _compare),
        _job("index of many", lambda: _index("many", 32)),
        _job("index of large", lambda: _index("large", 32)),
        _job("retrieve", _retrieve),
        _job("set of many", _set),
    ]


def _job(name: str, run: Callable[[], Any]) -> Job:
    return Job(name, guarded(run), lambda case: {}, lambda case: {})


def _source(name: str, *, start_s: float = 0.0, seconds: float = 0.0) -> Any:
    import folder_paths
    from comfy_api.latest import InputImpl

    path = f"{folder_paths.input_directory}/{name}"
    return InputImpl.VideoFromFile(path, start_time=start_s, duration=seconds)


def _extend(video: str, **cut: float) -> Any:
    from magic141.model_patches.bridge.window.make import Models
    from magic141.tests.support import tiny_run, tiny_windows
    from magic141.tests.support.tiny_vae import open_thin_taehv

    opened = tiny_run.tiny_models()
    models = Models(opened.model, opened.encoders, open_thin_taehv())
    source = _source(video, **cut)
    return tiny_windows.run(models, image=None, video=source, prompts="a", length=1, fps=24.0).report[
        "summary"
    ]


def _drift(window_length: int) -> Any:
    from magic141.nodes.drift_report import DriftReport

    return DriftReport.execute(_source("long.mp4"), window_length).result[1]


def _encoders() -> Any:
    from magic141.nodes.load_encoders import LoadMagic141Encoders

    return LoadMagic141Encoders.execute("deep_llava", "tiny_clip", "fp32").result[0]


def _load_encoders() -> None:
    _encoders()


def _encode() -> None:
    from magic141.nodes.vlm_image_encode import VLMImageEncode
    from magic141.tests.support.tiny_vae import open_thin_taehv

    VLMImageEncode.execute(
        _encoders(),
        open_thin_taehv(),
        prompt="a red star",
        negative_prompt="a circle",
        width=64,
        height=64,
        length=5,
        size="width x height",
        image_mode="reference pictures",
        image=torch.rand(4, 64, 64, 3),
    )


def _loaded(name: str) -> Any:
    from magic141.nodes.load_model import LoadMagic141Model

    return LoadMagic141Model.execute(name).result[0]


def _sample() -> None:
    from magic141.nodes.few_step_sampler import FewStepTI2VSampler

    image, mask = torch.zeros(1, 16, 2, 8, 8), torch.ones(1, 1, 2, 8, 8)
    mask[:, :, 0] = 0
    values = {"pooled_output": torch.randn(1, 768), "concat_latent_image": image, "concat_mask": mask}
    states: list[list[Any]] = [[torch.randn(1, 8, TEXT_WIDTH), values]]
    latent = {"samples": torch.zeros(1, 16, 2, 8, 8)}
    widgets = {"sampler": "euler", "cfg": 1.0, "seed": 0}
    FewStepTI2VSampler.execute(_loaded("dit.safetensors"), states, states, latent, 100, 5.0, **widgets)


class _Hidden:
    unique_id = None
    prompt = None


def _quantize(
    layout: str, mode: str, granularity: str, *, source: str = "large.safetensors", name="small"
) -> None:
    from magic141.nodes.quantize_file import QuantizeFile

    QuantizeFile.hidden = _Hidden()
    QuantizeFile.execute(source, name, mode, granularity, layout, True, False)


def _translate() -> None:
    _quantize("ComfyUI", "int8 weight-only (paper)", "per row")
    layout, mode = "quanto, diffusers names", "int8 weight-only (paper)"
    _quantize(layout, mode, "per row", source="small.safetensors", name="translated")


def _quantize_loaded() -> None:
    from magic141.nodes.int8_quantize import Int8Quantize

    Int8Quantize.hidden = _Hidden()
    Int8Quantize.execute(
        "int8 weight-only (paper)",
        "per row",
        True,
        True,
        True,
        "kept",
        True,
        False,
        model=_loaded("large.safetensors"),
        encoders=_encoders(),
    )


def _compare() -> None:
    from magic141.model_patches.bridge.int8.model import quantize_model
    from magic141.model_patches.bridge.int8.report import compare_models
    from magic141.nodes.int8_inputs import make_plan

    model = _loaded("large.safetensors")
    compare_models(model, quantize_model(model, make_plan("int8 weight-only (paper)", "per row")))


def _index(folder: str, batch_size: int) -> None:
    from magic141.nodes.image_index import BuildImageIndex

    BuildImageIndex.execute(f"input/{folder}", folder, "tiny_clip", batch_size, False)


def _retrieve() -> None:
    from magic141.model_patches.bridge.retrieval.embedders import load_clip
    from magic141.model_patches.bridge.retrieval.search import find, open_index

    _index("large", 2)
    embedder = load_clip("tiny_clip")
    found = find(
        open_index("large", embedder), embedder.embed_texts(["a"])[0], k=6, threshold=-1.0, diversity=0.5
    )
    assert len(found.images) == 6


def _set() -> None:
    from comfy_execution.graph import DynamicPrompt
    from magic141.nodes.training_set import BUCKET_CHOICES, BuildTrainingSet
    from magic141.tests.support import tiny_run
    from magic141.tests.support.tiny_vae import open_thin_taehv

    opened = tiny_run.tiny_models()
    bucket = next(iter(BUCKET_CHOICES))  # the size is chosen, which looks at every video
    cut = {"width": 64, "height": 64, "num_frames": 5, "fps": 24.0, "max_windows": 1}
    wired = ("input/clips", "many", opened.encoders, open_thin_taehv())
    graph = DynamicPrompt({"1": {"class_type": "Magic141BuildTrainingSet", "inputs": {}}})
    BuildTrainingSet.hidden = SimpleNamespace(unique_id="1", dynprompt=graph)
    BuildTrainingSet.execute(*wired, bucket, True, False, **cut)

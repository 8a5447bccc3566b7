"""A whole sliding-window run: read the start, plan the windows, make them, join the video, report."""

import io as bytes_io
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import folder_paths
from torch import Tensor

from ...sizes import SIZE_MULTIPLE_PX, check_pictures, resize_cover_crop
from ...store.video_sink import VideoFormat
from ...store.video_source import (
    Source,
    check_frame_rate,
    crop_to_multiple,
    probe_video,
    read_ends,
    read_frames,
    source_sha256,
)
from ...window.journal import digest
from ...window.plan import (
    Window,
    check_window,
    new_latent_frames_for,
    num_frames_of,
    plan_windows,
    window_sizes,
)
from ...window.report import build_report
from ...window.store import WindowStore
from ..encoders.conditioning import check_end_image
from ..fingerprint import encoders_fingerprint, model_fingerprint, module_fingerprint, tensor_fingerprint
from ..folders import MAX_NAME_LENGTH
from ..vae import LATENT_CHANNELS, SPATIAL_COMPRESSION, check_vae, kept_latent_frames
from .loop import Start, extend, window_keys
from .make import Models, WindowSettings, resolve_hand_over
from .progress import WindowProgress
from .stream import from_uint8, make_reference, stream_from_frames, stream_from_latent, to_uint8

RUNS_FOLDER = "magic141_runs"
METHOD_VERSION = 2
"""Raise it when the same settings make other frames, so that no old window is taken over."""


@dataclass(frozen=True)
class Request:
    """What to make and where.

    length: in seconds, or in windows if ``in_windows``. image, video, latent: what to start from; a latent may come
    with its video, which is then put in front. metadata: tags for the video file.
    """

    prompts: str
    length: float
    in_windows: bool
    fps: float
    seed: int
    run_name: str
    codec: str = "h264"
    quality: int = 17
    pngs: bool = False
    image: Tensor | None = None
    video: object | None = None
    latent: Tensor | None = None
    end_image: Tensor | None = None
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """A finished run: the video's path, its last frame (1, H, W, 3), the tail to go on from, the report."""

    video: Path
    last_frame: Tensor
    tail: Tensor
    report: dict


@dataclass(frozen=True)
class Material:
    """What a run starts from, read: the start, the video to put in front and how many frames it has, its hash."""

    start: Start
    width: int
    height: int
    lead_in: Source | None
    lead_in_frames: int
    fingerprint: str


def run_windows(
    models: Models, settings: WindowSettings, request: Request, *, node_id: str | None = None
) -> Outcome:
    """Make a long video, or go on where an earlier run of the same settings stopped.

    Raises:
        ValueError: inputs that do not fit, a directory in use or broken, a full disk; finished windows are kept.
    """
    check_vae(models.vae)
    check_window(settings.window_latent, settings.overlap_latent)
    windows = plan(settings, request, continues=request.image is None)
    if request.end_image is not None:  # used by the last window only, which may be hours away
        check_end_image(request.end_image, windows[-1].start_frame + windows[-1].num_new_frames)
    material = read_start(models.vae, settings, request)
    settings = replace(
        settings,
        width=material.width,
        height=material.height,
        hand_over=resolve_hand_over(models.vae, settings.hand_over).value,
    )
    video = VideoFormat(request.codec, request.fps, settings.width, settings.height, request.quality)
    shared = shared_settings(models, settings, request, video, material)
    keys = window_keys(windows, shared, end_image_hash=hash_or_empty(request.end_image))
    with WindowStore(run_folder(request.run_name, shared), shared, video, pngs=request.pngs) as store:
        store.metadata = request.metadata
        notes = store.restore(keys)
        if material.lead_in is not None:
            store.write_lead_in(crop_to_multiple(read_frames(material.lead_in), SIZE_MULTIPLE_PX))
            store.sound_from = material.lead_in
        stream = extend(
            models,
            settings,
            windows,
            material.start,
            store,
            keys=keys,
            seed=request.seed,
            end_image=request.end_image,
            progress=lambda done: WindowProgress(
                models.model, num_windows=len(windows), num_done=done, steps=settings.steps, node_id=node_id
            ),
        )
        path = store.join()
        facts = [entry.facts for entry in store.entries]
    told = shared | {"source_frames": material.lead_in_frames, "prompts": request.prompts}
    report = build_report(facts, settings=told, notes=notes, num_windows=len(windows), video=str(path))
    return Outcome(path, from_uint8(stream.frames[-1:]), stream.latent, report)


def plan(settings: WindowSettings, request: Request, *, continues: bool) -> list[Window]:
    """Return the windows of a request."""
    window, overlap = settings.window_latent, settings.overlap_latent
    if request.in_windows:
        count = max(1, round(request.length))
        num_new = count * (window - overlap) + (0 if continues else overlap)
    else:
        num_new = new_latent_frames_for(request.length, fps=request.fps, continues=continues)
    sizes = window_sizes(
        num_new,
        window_latent=window,
        overlap_latent=overlap,
        continues=continues,
        has_end_image=request.end_image is not None,
    )
    return plan_windows(
        sizes,
        window_latent=window,
        overlap_latent=overlap,
        continues=continues,
        prompts=request.prompts,
        fps=request.fps,
        seed=request.seed,
    )


def read_start(vae, settings: WindowSettings, request: Request) -> Material:
    """Read the image, video or latent that the run starts from.

    Raises:
        ValueError: none of them, two that exclude each other, or one that cannot be used.
    """
    if request.image is not None and (request.video is not None or request.latent is not None):
        raise ValueError("Connect an image to start from, or a video or latent to continue, not both.")
    if request.latent is not None:
        return from_latent(vae, settings, request)
    if request.video is not None:
        return from_video(vae, settings, request)
    if request.image is None:
        raise ValueError("Nothing to start from: connect image, or video or latent to continue one.")
    check_pictures(request.image, "image")
    if len(request.image) != 1:
        raise ValueError(
            f"image holds {len(request.image)} pictures; it takes one, the first frame. To continue a clip, make it a "
            "video (Create Video) and connect that to video."
        )
    image = resize_cover_crop(request.image, settings.width, settings.height)
    return Material(Start(image), settings.width, settings.height, None, 0, tensor_fingerprint(image))


def from_video(vae, settings: WindowSettings, request: Request) -> Material:
    """Read the end of a video; its frames go in front of the new ones."""
    source = video_source(request.video)
    check_frame_rate(probe_video(source), request.fps)
    num_last = num_frames_of(max(settings.overlap_latent, kept_latent_frames(vae)))
    first, last, count = read_ends(crop_to_multiple(read_frames(source), SIZE_MULTIPLE_PX), num_last)
    if 0 in first.shape:
        raise ValueError(f"The video is smaller than {SIZE_MULTIPLE_PX} px a side; connect a larger one.")
    stream = stream_from_frames(vae, last, settings.overlap_latent)
    start = Start(first, stream, make_reference(stream.latent, last))
    return Material(start, last.shape[2], last.shape[1], source, count, source_sha256(source))


def from_latent(vae, settings: WindowSettings, request: Request) -> Material:
    """Read the end of a latent; with its video, that goes in front."""
    latent = request.latent
    assert latent is not None
    if latent.ndim != 5 or tuple(latent.shape[:2]) != (1, LATENT_CHANNELS):
        raise ValueError(
            f"The latent has shape {tuple(latent.shape)}; one clip of a HunyuanVideo VAE is needed, "
            f"(1, {LATENT_CHANNELS}, frames, h, w)."
        )
    stream = stream_from_latent(vae, latent, settings.overlap_latent)
    height, width = (side * SPATIAL_COMPRESSION for side in latent.shape[-2:])
    source, count, first = None, 0, from_uint8(stream.frames[:1])
    if request.video is not None:
        source = video_source(request.video)
        facts = probe_video(source)
        check_frame_rate(facts, request.fps)
        if (facts.width, facts.height) != (width, height):
            raise ValueError(
                f"The video is {facts.width}x{facts.height} and the latent {width}x{height} pixels. "
                "Connect the video and the tail of the same run."
            )
        first, last, count = read_ends(read_frames(source), len(stream.frames))
        if len(last) == len(stream.frames):  # what was seen, not what the tail alone decodes to
            stream = replace(stream, frames=to_uint8(last))
    start = Start(first, stream, make_reference(stream.latent, from_uint8(stream.frames)))
    hashes = tensor_fingerprint(latent) + (source_sha256(source) if source else "")
    return Material(start, width, height, source, count, digest(hashes))


def video_source(video) -> Source:
    """Return the file of a VIDEO, or the bytes of one where it is trimmed or only in memory."""
    try:
        source = video.get_stream_source()
        if video.get_active_trim_window() != (0.0, 0.0):
            source = bytes_io.BytesIO()
            video.save_to(source, format="mp4")
    except (OSError, ValueError) as error:
        raise ValueError(f"The video cannot be read ({error}).") from error
    return source if isinstance(source, bytes_io.BytesIO) else Path(source)


def shared_settings(
    models: Models, settings: WindowSettings, request: Request, video, material: Material
) -> dict:
    """Return everything that would change every frame, as plain values."""
    return {
        "method": METHOD_VERSION,
        **asdict(settings),
        "video": asdict(video),
        "pngs": request.pngs,
        "seed": request.seed,
        "start": material.fingerprint,
        "model": model_fingerprint(models.model),
        "vae": module_fingerprint(models.vae.first_stage_model),
        "encoders": encoders_fingerprint(models.encoders),
    }


def hash_or_empty(image: Tensor | None) -> str:
    """Return an optional image's fingerprint."""
    return "" if image is None else tensor_fingerprint(image)


def run_name_fault(run_name: str) -> str | None:
    """Return what is wrong with the name of a run, or None."""
    name = run_name.strip()
    plain = Path(name).name == name and name.isprintable() and len(name) <= MAX_NAME_LENGTH
    if name and plain and name not in (".", ".."):
        return None
    return (
        f"run_name is {run_name[:MAX_NAME_LENGTH]!r}; a plain name without slashes is needed, {MAX_NAME_LENGTH} "
        "letters at most."
    )


def run_folder(run_name: str, shared: dict) -> Path:
    """Return the run's directory: other settings get another one, so no finished window is ever overwritten by them.

    Raises:
        ValueError: the name is no plain folder name.
    """
    if (problem := run_name_fault(run_name)) is not None:
        raise ValueError(problem)
    name = run_name.strip()
    return Path(folder_paths.get_output_directory()) / RUNS_FOLDER / f"{name}-{digest(shared)[:8]}"

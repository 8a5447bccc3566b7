"""Read what a long video starts from: an image, or the end of a video or latent to continue."""

import io as bytes_io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ...sizes import (
    FRAMES_PER_LATENT,
    LATENT_CHANNELS,
    SIZE_MULTIPLE_PX,
    SPATIAL_COMPRESSION,
    check_pictures,
    num_frames_of,
    resize_cover_crop,
)
from ...store.cancel import stop_if_canceled
from ...store.pictures import to_uint8
from ...store.video_source import (
    Source,
    check_frame_rate,
    crop_to_multiple,
    read_ends,
    read_frames,
    source_sha256,
)
from ...window.entries import digest
from ...window.run import SEAM_FRAMES, Begin, make_reference
from ...window.settings import WindowSettings
from ...window.tail import Tail, from_uint8
from ..fingerprint import tensor_fingerprint
from ..vae import decode_frames, encode_frames, kept_latent_frames
from .make import latent_state


@dataclass(frozen=True)
class Sources:
    """What is connected to start from; a latent may come with its video, which is then put in front."""

    image: Tensor | None = None
    video: object | None = None
    latent: Tensor | None = None
    end_image: Tensor | None = None


@dataclass(frozen=True)
class Material:
    """What a run starts from, read.

    image: (1, H, W, 3), the first frame of the video. fingerprint: of all content. lead_in, lead_in_frames: the video
    to put in front, and how many frames it has.
    """

    image: Tensor
    begin: Begin
    fingerprint: str
    lead_in: Source | None = None
    lead_in_frames: int = 0

    @property
    def size(self) -> tuple[int, int]:
        """Return width and height in pixels."""
        return self.image.shape[2], self.image.shape[1]


def read_start(vae, settings: WindowSettings, sources: Sources) -> Material:
    """Read the image, video or latent that the run starts from.

    Raises:
        ValueError: none of them, two that exclude each other, or one that cannot be used.
    """
    image = sources.image
    if image is not None and (sources.video is not None or sources.latent is not None):
        raise ValueError("Connect an image to start from, or a video or latent to continue, not both.")
    if sources.latent is not None:
        return _from_latent(vae, settings, sources.latent, sources.video)
    if sources.video is not None:
        return _from_video(vae, settings, sources.video)
    if image is None:
        raise ValueError("Nothing to start from: connect image, or video or latent to continue one.")
    return from_image(image, (settings.width, settings.height), keep_frames=num_frames_of(settings.overlap))


def from_image(image: Tensor, size: tuple[int, int], *, keep_frames: int) -> Material:
    """Return a video's beginning from a picture, cropped to a size (width, height).

    Raises:
        ValueError: it is no picture, or several.
    """
    check_pictures(image, "image")
    if len(image) != 1:
        raise ValueError(
            f"image holds {len(image)} pictures; it takes one, the first frame. To continue a clip, make it a "
            "video (Create Video) and connect that to video."
        )
    first = resize_cover_crop(image, *size)
    return Material(first, Begin(keep_frames, first=first), tensor_fingerprint(first))


def read_video_end(video, fps: float, num_last: int) -> tuple[Source, Tensor, Tensor, int]:
    """Return the source of a continued video, its first frame, its last frames, and how many it has.

    Raises:
        ValueError: another frame rate, or a side below 16 pixels.
    """
    source = video_source(video)
    check_frame_rate(source, fps)
    first, last, count = read_ends(crop_to_multiple(read_frames(source, fps), SIZE_MULTIPLE_PX), num_last)
    if 0 in first.shape:
        raise ValueError(f"The video is smaller than {SIZE_MULTIPLE_PX} px a side; connect a larger one.")
    return source, first, last, count


def _from_video(vae, settings: WindowSettings, video: object) -> Material:
    """Read the end of a video; its frames go in front of the new ones."""
    num_last = num_frames_of(max(settings.overlap, kept_latent_frames(vae)))
    source, first, last, count = read_video_end(video, settings.fps, num_last)
    tail = tail_of_frames(vae, last, settings.overlap)
    begin = Begin(num_frames_of(settings.overlap), tail, make_reference(last), first)
    return Material(first, begin, source_sha256(source), source, count)


def _from_latent(vae, settings: WindowSettings, latent: Tensor, video: object | None) -> Material:
    """Read the end of a latent; with its video, that goes in front."""
    if latent.ndim != 5 or tuple(latent.shape[:2]) != (1, LATENT_CHANNELS):
        raise ValueError(
            f"The latent has shape {tuple(latent.shape)}; one clip of a HunyuanVideo VAE is needed, "
            f"(1, {LATENT_CHANNELS}, frames, h, w)."
        )
    tail = tail_of_latent(vae, latent, settings.overlap)
    source, count, first = None, 0, from_uint8(tail.frames[:1])
    if video is not None:
        source = video_source(video)
        _check_same_clip(source, latent, settings.fps)
        first, last, count = read_ends(read_frames(source, settings.fps), len(tail.frames))
        # the frames of the video, which a tail decoded alone would not match
        if len(last) == len(tail.frames):
            tail = replace(tail, frames=to_uint8(last))
    reference = make_reference(from_uint8(tail.frames))
    begin = Begin(num_frames_of(settings.overlap), tail, reference, first)
    hashes = tensor_fingerprint(latent) + (source_sha256(source) if source else "")
    return Material(first, begin, digest(hashes), source, count)


def _check_same_clip(source: Source, latent: Tensor, fps: float) -> None:
    facts = check_frame_rate(source, fps)
    height, width = (side * SPATIAL_COMPRESSION for side in latent.shape[-2:])
    if (facts.width, facts.height) != (width, height):
        raise ValueError(
            f"The video is {facts.width}x{facts.height} and the latent {width}x{height} pixels. "
            "Connect the video and the tail of the same run."
        )


def video_source(video) -> Source:
    """Return the file of a VIDEO, or the bytes of one where it is trimmed or only in memory."""
    cut = _Bytes()
    try:
        source = video.get_stream_source()
        if video.get_active_trim_window() != (0.0, 0.0):
            source = cut
            video.save_to(source, format="mp4")
    except (OSError, ValueError) as error:
        if cut.canceled is not None:
            raise cut.canceled from None
        raise ValueError(f"The video cannot be read ({error}).") from error
    return source if isinstance(source, bytes_io.BytesIO) else Path(source)


class _Bytes(bytes_io.BytesIO):
    """A buffer whose writer stops on a cancel: the library that writes takes only an OSError, so the cancel is kept."""

    canceled: BaseException | None = None

    def write(self, data: Any) -> int:
        try:
            stop_if_canceled()
        except BaseException as error:
            self.canceled = error
            raise OSError("canceled") from None
        return super().write(data)


def tail_of_frames(vae, frames: Tensor, overlap: int) -> Tail:
    """Return the tail of an existing video.

    Args:
        frames: (n, H, W, 3) in [0, 1], its last ones; the oldest are dropped to leave 4m + 1.

    Raises:
        ValueError: fewer frames than the overlap.
    """
    needed = num_frames_of(overlap)
    if len(frames) < needed:
        raise ValueError(
            f"The video has {len(frames)} frames; an overlap of {overlap} latent frames needs {needed}. "
            f"Set overlap to {max(1, (len(frames) - 1) // FRAMES_PER_LATENT + 1)} or give a longer video."
        )
    usable = num_frames_of((len(frames) - 1) // FRAMES_PER_LATENT + 1)
    return _tail(vae, encode_frames(vae, frames[-usable:]), frames[-usable:], overlap)


def tail_of_latent(vae, latent: Tensor, overlap: int) -> Tail:
    """Return the tail of an existing LATENT.

    Raises:
        ValueError: fewer latent frames than the overlap.
    """
    if latent.shape[2] < overlap:
        raise ValueError(
            f"The latent has {latent.shape[2]} frames and overlap is {overlap}. "
            f"Set overlap to {latent.shape[2]} or give a longer latent."
        )
    latent = latent[:, :, -max(overlap, kept_latent_frames(vae)) :]
    return _tail(vae, latent, decode_frames(vae, latent), overlap)


def _tail(vae, latent: Tensor, frames: Tensor, overlap: int) -> Tail:
    """Return a tail with the latent and pixel frames that later windows can need."""
    keep = max(num_frames_of(overlap), SEAM_FRAMES)
    return Tail(
        to_uint8(frames)[-keep:].clone(), latent_state(vae, latent, overlap, num_before=latent.shape[2])
    )

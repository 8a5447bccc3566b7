"""Read a video file frame by frame; say in plain words what is wrong with a file that is not one."""

import hashlib
import io
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.stream import VideoStream
from torch import Tensor

from .cancel import until_canceled
from .files import file_sha256
from .video_picture import Picture

Source = Path | io.BytesIO
"""A video file, or the bytes of one."""

UNEVEN = 0.1
"""A frame may come this share of a step early or late in a video of a steady rate."""
MAX_GAP_S = 60.0
"""A longer gap between two frames is taken for a broken time stamp."""
MAX_LAST_S = 1.0
"""The last frame is shown for no longer than this; a time stamp may go back by as much."""


def open_source(source: Source) -> InputContainer:
    """Open a video file or its bytes.

    Raises:
        ValueError: it is not a regular file (opening a pipe would block).
    """
    if isinstance(source, io.BytesIO):
        source.seek(0)
        return av.open(source, "r")
    if source.exists() and not source.is_file():
        raise ValueError(f"{source_name(source)} is not a regular file. Give a video file.")
    return av.open(str(source))


def video_stream(container: InputContainer, source: Source) -> VideoStream:
    """Return the video track that players show, which is never a cover picture.

    Raises:
        ValueError: there is none.
    """
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            stream.thread_type = "AUTO"
            return stream
    content = "sound only" if container.streams.audio else "no video"
    raise ValueError(f"{source_name(source)} holds {content}. Give a file with a video track.")


def source_name(source: Source) -> str:
    """Return what a message calls the source."""
    return "The video" if isinstance(source, io.BytesIO) else str(source)


def source_sha256(source: Source) -> str:
    """Return the SHA-256 of the source's bytes."""
    if isinstance(source, io.BytesIO):
        return hashlib.sha256(source.getbuffer()).hexdigest()
    return file_sha256(source)


@dataclass(frozen=True)
class VideoFacts:
    """Size of a video as displayed, and its mean frame rate, 0 if that is not known."""

    width: int
    height: int
    fps: Fraction


def probe_video(source: Source) -> VideoFacts:
    """Read the size and frame rate of a video.

    Raises:
        ValueError: it cannot be read, or holds sound only.
    """
    try:
        with open_source(source) as container:
            stream = video_stream(container, source)
            picture = Picture.of(next(container.decode(stream)), stream)
            return VideoFacts(*picture.size, Fraction(stream.average_rate or 0))
    except (FFmpegError, StopIteration) as error:
        reason = error.strerror if isinstance(error, FFmpegError) else "it has no frames"
        raise ValueError(f"{source_name(source)} cannot be read as a video ({reason}).") from error


def check_frame_rate(source: Source, fps: float) -> VideoFacts:
    """Refuse a source that would run at another speed at ``fps``; return its facts.

    A source without a steady rate is accepted: ``read_frames`` makes it steady.

    Raises:
        ValueError: the rates differ by more than 1 in 2000 (23.976 is not 24), or it cannot be read.
    """
    facts = probe_video(source)
    rate = float(facts.fps)
    if abs(rate - fps) > fps / 2000 and is_steady(source):
        raise ValueError(
            f"The video runs at {rate:.6g} frames a second and fps is set to {fps:g}. "
            f"Set fps to {rate:.6g}, or convert the video to {fps:g} frames a second first."
        )
    return facts


def is_steady(source: Source) -> bool:
    """Say whether the frames of a video come at the rate it states, apart from rounded time stamps.

    Packets are read but not decoded. A video whose packets carry no times counts as steady if it states a rate.
    """
    with _damage_errors(source) as progress, open_source(source) as container:
        stream = video_stream(container, source)
        times: list[int] = []
        for packet in until_canceled(container.demux(stream)):
            if packet.pts is not None:
                times.append(packet.pts)
        times.sort()
        progress.count = len(times)
        if not times or not stream.average_rate or stream.time_base is None:
            return bool(stream.average_rate)
        if len(times) == 1:
            return False
        step = float(1 / (stream.average_rate * stream.time_base))
        return bool(np.abs(np.diff(times) - step).max() <= max(1.0, step * UNEVEN))


def read_frames(source: Source, fps: float | None = None) -> Iterator[Tensor]:
    """Yield every frame as players show it, (H, W, 3) float in [0, 1]; one frame is in memory at a time.

    Args:
        source: a file or its bytes.
        fps: if the source has no steady rate, yield what a screen would show at this rate.

    Raises:
        ValueError: the file is damaged somewhere.
    """
    if fps is not None and not is_steady(source):
        yield from frames_at_rate(source, fps)
        return
    with _damage_errors(source) as progress, open_source(source) as container:
        stream = video_stream(container, source)
        for frame in until_canceled(container.decode(stream)):
            yield Picture.of(frame, stream).to_tensor()
            progress.count += 1


def frames_at_rate(source: Source, fps: float) -> Iterator[Tensor]:
    """Yield the frames a screen would show at ``fps``: some are repeated or left out if the source has another rate.

    Frames are (H, W, 3) float in [0, 1]; two are in memory at a time.

    Raises:
        ValueError: the file is damaged somewhere, or its time stamps jump.
    """
    with _damage_errors(source) as progress, open_source(source) as container:
        stream = video_stream(container, source)
        step = 1.0 / fps
        source_step = float(1 / stream.average_rate) if stream.average_rate else step
        shown: Tensor | None = None
        start = shown_at = 0.0
        count = 0
        for number, frame in enumerate(until_canceled(container.decode(stream))):
            time = number * source_step if frame.time is None else frame.time
            start = time if shown is None else start
            _check_gap(source, shown_at, time - start)
            while shown is not None and count * step < time - start - step / 100:
                yield shown
                count += 1
            shown, shown_at = Picture.of(frame, stream).to_tensor(), time - start
            progress.count += 1
        end = max(shown_at + min(source_step, MAX_LAST_S), step)  # one frame at least
        while shown is not None and count * step < end - step / 100:
            yield shown
            count += 1


def _check_gap(source: Source, before: float, now: float) -> None:
    if not -MAX_LAST_S <= now - before <= MAX_GAP_S:
        raise ValueError(
            f"The time stamps of {source_name(source)} jump from {before:.6g} to {now:.6g} seconds. Repair them first: "
            "ffmpeg -i old.mp4 -vf setpts=N/FRAME_RATE/TB new.mp4"
        )


@dataclass
class _Progress:
    count: int = 0


@contextmanager
def _damage_errors(source: Source) -> Iterator[_Progress]:
    """Yield a counter of frames; turn FFmpeg's errors into a message that says where the file is damaged."""
    progress = _Progress()
    try:
        yield progress
    except FFmpegError as error:
        raise ValueError(
            f"{source_name(source)} is damaged after {progress.count} frames ({error.strerror or error}). "
            "Repair it, or cut it before that place."
        ) from error


def crop_to_multiple(frames: Iterable[Tensor], multiple: int) -> Iterator[Tensor]:
    """Cut every frame at its center to sides that are multiples of ``multiple``."""
    for frame in frames:
        height, width = (side - side % multiple for side in frame.shape[:2])
        top, left = (frame.shape[0] - height) // 2, (frame.shape[1] - width) // 2
        yield frame[top : top + height, left : left + width]


def read_ends(frames: Iterable[Tensor], num_last: int) -> tuple[Tensor, Tensor, int]:
    """Go through all frames once and keep the first and the last ones.

    Returns:
        The first frame (1, H, W, 3), the last ``num_last`` or fewer (n, H, W, 3), and the number of all frames.
    """
    first: Tensor | None = None
    last: deque[Tensor] = deque(maxlen=num_last)
    count = 0
    for frame in frames:
        first = frame[None] if first is None else first
        last.append(frame)
        count += 1
    if first is None:
        raise ValueError("The video has no frames.")
    return first, torch.stack(list(last)), count

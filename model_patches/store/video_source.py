"""Read a video file frame by frame, with plain words for files that are none."""

import hashlib
import io
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from av.video.reformatter import ColorRange
from torch import Tensor

Source = Path | io.BytesIO
"""A video file, or the bytes of one."""


def open_source(source: Source) -> av.container.InputContainer:
    """Open a video file or its bytes."""
    if isinstance(source, io.BytesIO):
        source.seek(0)
        return av.open(source)
    return av.open(str(source))


def source_name(source: Source) -> str:
    """Return what a message calls the source."""
    return "The video" if isinstance(source, io.BytesIO) else str(source)


def source_sha256(source: Source) -> str:
    """Return the SHA-256 of the source's bytes."""
    if isinstance(source, io.BytesIO):
        return hashlib.sha256(source.getbuffer()).hexdigest()
    with source.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class VideoFacts:
    """What a video file says of itself; sizes as displayed."""

    width: int
    height: int
    fps: Fraction
    has_sound: bool


def probe_video(source: Source) -> VideoFacts:
    """Read a file's facts.

    Raises:
        ValueError: it cannot be read, or holds sound only.
    """
    try:
        with open_source(source) as container:
            if not container.streams.video:
                held = "sound only" if container.streams.audio else "no video"
                raise ValueError(f"{source_name(source)} holds {held}. Give a file with a video track.")
            frame = next(container.decode(container.streams.video[0]))
            rate = container.streams.video[0].average_rate or Fraction(0)
            turned = _quarter_turns(frame) % 2
            width, height = (frame.height, frame.width) if turned else (frame.width, frame.height)
            return VideoFacts(width, height, Fraction(rate), bool(container.streams.audio))
    except (av.error.FFmpegError, StopIteration) as error:
        raise ValueError(
            f"{source_name(source)} cannot be read as a video ({error or 'it has no frames'})."
        ) from error


def check_frame_rate(facts: VideoFacts, fps: float) -> None:
    """Refuse a source whose frames would run at another speed.

    Raises:
        ValueError: the rates differ by more than 1 in 2000; 23.976 is not 24.
    """
    if abs(float(facts.fps) - fps) > fps / 2000:
        raise ValueError(
            f"The video runs at {float(facts.fps):.6g} frames a second and fps is set to {fps:g}. "
            f"Set fps to {float(facts.fps):.6g}, or convert the video to {fps:g} frames a second first."
        )


def read_frames(source: Source) -> Iterator[Tensor]:
    """Yield every frame as (H, W, 3) float in [0, 1], upright; one frame is in memory at a time."""
    with open_source(source) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for frame in container.decode(stream):
            yield _upright(frame)


def frames_at_rate(source: Source, fps: float) -> Iterator[Tensor]:
    """Yield the frames a screen would show at ``fps``: some twice or left out where the source runs at another rate.

    Frames are (H, W, 3) float in [0, 1], upright; two are in memory at a time.
    """
    with open_source(source) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        step = 1.0 / fps
        source_step = float(1 / stream.average_rate) if stream.average_rate else step
        shown: Tensor | None = None
        start = shown_at = 0.0
        count = 0
        for number, frame in enumerate(container.decode(stream)):
            time = number * source_step if frame.time is None else frame.time
            start = time if shown is None else start
            while shown is not None and count * step < time - start - step / 100:
                yield shown
                count += 1
            shown, shown_at = _upright(frame), time - start
        while shown is not None and count * step < shown_at + source_step - step / 100:
            yield shown
            count += 1


def _upright(frame: av.VideoFrame) -> Tensor:
    turns = _quarter_turns(frame)
    rgb = frame.reformat(format="rgb24", dst_color_range=ColorRange.JPEG).to_ndarray()
    return torch.from_numpy(np.rot90(rgb, turns).copy() if turns else rgb).float() / 255


def crop_to_multiple(frames: Iterable[Tensor], multiple: int) -> Iterator[Tensor]:
    """Cut every frame at its centre to sides that are multiples of ``multiple``."""
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


def _quarter_turns(frame: av.VideoFrame) -> int:
    return round((frame.rotation or 0) / 90) % 4

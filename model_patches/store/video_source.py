"""Read a video file frame by frame, with plain words for files that are none."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from av.video.reformatter import ColorRange
from torch import Tensor


@dataclass(frozen=True)
class VideoFacts:
    """What a video file says of itself; sizes as displayed."""

    width: int
    height: int
    fps: Fraction
    has_sound: bool


def probe_video(path: Path) -> VideoFacts:
    """Read a file's facts.

    Raises:
        ValueError: it cannot be read, or holds sound only.
    """
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                held = "sound only" if container.streams.audio else "no video"
                raise ValueError(f"{path} holds {held}. Give a file with a video track.")
            frame = next(container.decode(container.streams.video[0]))
            rate = container.streams.video[0].average_rate or Fraction(0)
            turned = _quarter_turns(frame) % 2
            width, height = (frame.height, frame.width) if turned else (frame.width, frame.height)
            return VideoFacts(width, height, Fraction(rate), bool(container.streams.audio))
    except (av.error.FFmpegError, StopIteration) as error:
        raise ValueError(f"{path} cannot be read as a video ({error or 'it has no frames'}).") from error


def check_frame_rate(facts: VideoFacts, fps: float) -> None:
    """Refuse a source whose frames would run at another speed.

    Raises:
        ValueError: the rates differ by more than a thousandth.
    """
    if abs(float(facts.fps) - fps) > fps / 1000:
        raise ValueError(
            f"The video runs at {float(facts.fps):.6g} frames a second and fps is set to {fps:g}. "
            f"Set fps to {float(facts.fps):.6g}, or convert the video to {fps:g} frames a second first."
        )


def read_frames(path: Path) -> Iterator[Tensor]:
    """Yield every frame as (H, W, 3) float in [0, 1], upright; one frame is in memory at a time."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for frame in container.decode(stream):
            turns = _quarter_turns(frame)
            rgb = frame.reformat(format="rgb24", dst_color_range=ColorRange.JPEG).to_ndarray()
            yield torch.from_numpy(np.rot90(rgb, turns).copy() if turns else rgb).float() / 255


def _quarter_turns(frame: av.VideoFrame) -> int:
    return round((frame.rotation or 0) / 90) % 4

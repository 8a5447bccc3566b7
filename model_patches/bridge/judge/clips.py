"""Read the frames of a VIDEO or an IMAGE one by one, all of one size and without NaN."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ...sizes import resize_cover_crop
from ...store.pictures import to_uint8
from ...store.video_source import Source, probe_video, read_frames
from ..window.start import video_source


@dataclass
class Clip:
    """Frames to judge.

    material: a video file, or an IMAGE (T, H, W, C). fps: frames a second. expected: about how many frames, 0 if
    unknown. notes: what the artist should know about the frames, filled while they are read.
    """

    material: Source | Tensor
    fps: float
    expected: int
    notes: list[str] = field(default_factory=list)

    def frames(self) -> Iterator[Tensor]:
        """Yield frames (H, W, 3) uint8; one is in memory at a time. ``notes`` is complete at the end."""
        frames = iter(self.material) if isinstance(self.material, Tensor) else read_frames(self.material)
        size: tuple[int, int] | None = None
        bad, resized = [], []
        for number, frame in enumerate(frames, start=1):
            picture = frame[..., :3].float()
            if not torch.isfinite(picture).all():
                bad.append(number)
                continue
            size = size or (picture.shape[1], picture.shape[0])
            if size != (picture.shape[1], picture.shape[0]):
                resized.append(number)
                picture = resize_cover_crop(picture[None], *size)[0]
            yield to_uint8(picture)
        self.notes = []
        if isinstance(self.material, Tensor) and self.material.shape[-1] == 4:
            self.notes.append("The alpha channel is ignored.")
        if bad:
            self.notes.append(
                f"Left out: {_frames(bad)} values that are not numbers (NaN). Check the node that makes them."
            )
        if resized:
            self.notes.append(f"Resized to the first frame's size: {_frames(resized)} another size.")


def _frames(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:5])) + (", ..." if len(numbers) > 5 else "")
    return (
        f"frame {shown}, which has" if len(numbers) == 1 else f"{len(numbers)} frames ({shown}), which have"
    )


def open_clip(clip, fps: float) -> Clip:
    """Return the frames behind a VIDEO or IMAGE.

    Args:
        fps: of an IMAGE, and of a video that does not state its own.

    Raises:
        ValueError: it cannot be read, or holds no picture.
    """
    if isinstance(clip, Tensor):
        if clip.ndim != 4 or not len(clip) or clip.shape[-1] not in (3, 4):
            raise ValueError(f"The clip has shape {tuple(clip.shape)}; (frames, height, width, 3) is needed.")
        return Clip(clip, fps, len(clip))
    opened = open_video(video_source(clip), fps)
    return replace(opened, expected=round(clip.get_duration() * opened.fps))


def open_video(source: Source, fps: float) -> Clip:
    """Return the frames of a video file; ``fps`` is used if it does not state its own."""
    return Clip(source, float(probe_video(source).fps) or fps, 0)

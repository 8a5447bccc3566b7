"""Show a decoded frame as players do: with square pixels, rotated and mirrored as its display matrix says."""

from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
import torch
from av.video.reformatter import ColorRange
from av.video.stream import VideoStream
from torch import Tensor

MAX_PIXEL_SHAPE = 10


@dataclass(frozen=True)
class Picture:
    """A decoded frame and how players show it.

    Attributes:
        frame: as it is stored.
        stretched: (width, height) with square pixels.
        transposed: rows become columns; before flips.
        flips: axes to mirror, 0 top to bottom, 1 left to right.
    """

    frame: av.VideoFrame
    stretched: tuple[int, int]
    transposed: bool
    flips: tuple[int, ...]

    @classmethod
    def of(cls, frame: av.VideoFrame, stream: VideoStream) -> "Picture":
        """Read the shape of the pixels and the display matrix.

        Raises:
            ValueError: the pixels have a shape that no camera makes.
        """
        shape = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or Fraction(1)
        if not 1 / MAX_PIXEL_SHAPE <= shape <= MAX_PIXEL_SHAPE:
            raise ValueError(
                f"The video says that its pixels are {shape} times as wide as high. Convert it first."
            )
        width = round(frame.width * max(1, shape))
        height = round(frame.height / min(1, shape))
        return cls(frame, (width, height), *_orientation(frame))

    @property
    def size(self) -> tuple[int, int]:
        """Return the (width, height) that is shown."""
        width, height = self.stretched
        return (height, width) if self.transposed else (width, height)

    def to_tensor(self) -> Tensor:
        """Return the picture as shown, (H, W, 3) float in [0, 1]."""
        width, height = self.stretched
        rgb = self.frame.reformat(
            format="rgb24", width=width, height=height, dst_color_range=ColorRange.JPEG
        ).to_ndarray()
        shown = np.flip(rgb.swapaxes(0, 1) if self.transposed else rgb, self.flips)
        return torch.from_numpy(np.ascontiguousarray(shown)).float() / 255


def _orientation(frame: av.VideoFrame) -> tuple[bool, tuple[int, ...]]:
    """Return whether a frame is shown transposed, and the axes to mirror after that.

    The display matrix shows the stored pixel (x, y) at (a x + c y, b x + d y).
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return False, ()
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
    transposed = abs(b) + abs(c) > abs(a) + abs(d)
    down, right = (b, c) if transposed else (d, a)
    return transposed, tuple(axis for axis, sign in enumerate((down, right)) if sign < 0)

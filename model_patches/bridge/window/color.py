"""Hold a window's colours to the first window's: color by color, or as a whole by the host's Transfer Color node."""

import contextlib
from collections.abc import Iterator
from enum import StrEnum

import comfy.utils
from comfy_extras.nodes_post_processing import ColorTransfer
from torch import Tensor

from ...window.palette import hold_palette
from .stream import Reference, from_uint8


class ColorMatch(StrEnum):
    """What a window's colours are matched by.

    EACH: every colour of the first window's palette is looked up and its own shift taken back; what comes into the
    picture or leaves it changes nothing. PICTURE: mean and spread of the whole picture.
    """

    EACH = "color by color"
    PICTURE = "whole picture"


def anchor_colors(frames: Tensor, reference: Reference, strength: float, match: str) -> Tensor:
    """Move a window's colours towards the reference's, all frames by one transform.

    Args:
        frames: (T, H, W, 3) in [0, 1].
        strength: 0 leaves the frames as they are, 1 takes the whole difference back.
        match: one of ``ColorMatch``.
    """
    if ColorMatch(match) == ColorMatch.EACH:
        return hold_palette(frames, reference.palette, strength)
    return match_colors(frames, from_uint8(reference.frames), strength)


def match_colors(frames: Tensor, reference: Tensor, strength: float) -> Tensor:
    """Move the frames' colours, all by one transform, towards the reference's.

    Args:
        frames: (T, H, W, 3) in [0, 1].
        reference: (N, H, W, 3) in [0, 1].
        strength: 0 leaves the frames as they are, 1 gives them the reference's mean and spread in Lab.
    """
    if strength == 0.0:
        return frames
    with _quiet_progress():
        output = ColorTransfer.execute(
            frames, reference, "reinhard_lab", {"source_stats": "uniform"}, strength=strength
        )
    return output.args[0].to(frames)


@contextlib.contextmanager
def _quiet_progress() -> Iterator[None]:
    """Keep a node called from inside another from taking over its progress bar."""
    hook = comfy.utils.PROGRESS_BAR_HOOK
    comfy.utils.set_progress_bar_global_hook(None)
    try:
        yield
    finally:
        comfy.utils.set_progress_bar_global_hook(hook)

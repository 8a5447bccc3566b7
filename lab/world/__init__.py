"""The shapes world: an endless, captioned 64x64 world whose ground truth can be computed.

One object of 6 shapes, 8 colours and 2 sizes moves over one of 4 backgrounds at constant velocity (8 directions x
2 speeds) and wraps around the edges, so a clip of any length is well defined. Some scenes hold a second, smaller
object that stands still. ``scenes`` draws factors, ``render`` draws pixels, ``captions`` writes words and
``measure`` reads the truth back from frames.
"""

# ruff: noqa: F401

from .captions import appearance_caption, named_caption, open_caption
from .measure import Reading, motion_of, read_clip, score_clips
from .render import render_along, render_clip
from .scenes import (
    BACKGROUNDS,
    COLOURS,
    DIRECTIONS,
    FPS,
    PLACES,
    SHAPES,
    SIDE_PX,
    SIZES,
    SPEEDS,
    Scenes,
    concatenate,
    held_out,
    sample_scenes,
    velocities_px,
)

"""Draw a bar plot with Pillow alone."""

from collections.abc import Mapping

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

WIDTH, HEIGHT = 960, 480
LEFT, RIGHT, TOP, BOTTOM = 80, 24, 56, 64
INK, GRID, PAPER = (30, 30, 34), (210, 210, 216), (250, 250, 250)
BAR_COLOURS = ((52, 110, 190), (214, 120, 44))
GRID_LINES = 4
LABEL_PX = 70


def bar_plot(bars: Mapping[str, float], *, title: str) -> Tensor:
    """Return a bar plot of percentages.

    Args:
        bars: label to share (0.01 is drawn as 1 %), drawn from left to right; the colour changes with the label's
            text before the first dot.
        title: one line.
    Returns:
        (1, 480, 960, 3) in [0, 1].
    """
    image = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(16)
    draw.text((LEFT, 16), title, fill=INK, font=font)
    top = _round_up(max(bars.values(), default=0.0))
    _draw_grid(draw, top)
    _draw_bars(draw, bars, top)
    return torch.from_numpy(np.asarray(image, dtype=np.float32) / 255.0)[None]


def _draw_grid(draw: ImageDraw.ImageDraw, top: float) -> None:
    font = ImageFont.load_default(13)
    for i in range(GRID_LINES + 1):
        y = _y(top * i / GRID_LINES, top)
        draw.line((LEFT, y, WIDTH - RIGHT, y), fill=GRID if i else INK)
        draw.text((LEFT - 8, y), f"{top * i / GRID_LINES:.2%}", fill=INK, font=font, anchor="rm")


def _draw_bars(draw: ImageDraw.ImageDraw, bars: Mapping[str, float], top: float) -> None:
    step = (WIDTH - LEFT - RIGHT) / max(1, len(bars))
    every = max(1, round(LABEL_PX / step))
    groups = list(dict.fromkeys(label.split(".")[0] for label in bars))
    font = ImageFont.load_default(12)
    for i, (label, value) in enumerate(bars.items()):
        left = LEFT + step * i
        group = groups.index(label.split(".")[0])
        draw.rectangle(
            (left + step * 0.15, _y(value, top), left + step * 0.85, HEIGHT - BOTTOM), BAR_COLOURS[group % 2]
        )
        if i % every == 0:
            draw.text(
                (left + step / 2, HEIGHT - BOTTOM + 8), label.replace("_blocks", ""), INK, font, anchor="ma"
            )
    draw.text((LEFT, HEIGHT - 24), "  ".join(groups), INK, ImageFont.load_default(13))


def _y(value: float, top: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * min(value, top) / top


def _round_up(value: float) -> float:
    """Return the next of 1, 2, 5, 10, 20... ten-thousandths."""
    for step in (m * 10.0**e for e in range(-4, 3) for m in (1, 2, 5)):
        if value <= step:
            return step
    return max(value, 1e-4)

"""The pictures this pack draws; in this file training curves, quantization errors and strips of frames."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..store.pictures import to_image, to_tensor

PAPER, INK, GRID, RAW, LINE, BAD = "#ffffff", "#202020", "#d8d8d8", "#b9cfee", "#1f6fd0", "#d03030"
BAR_COLORS = ("#346ebe", "#d6782c")
WIDTH_PX, TRAINING_PANEL_PX = 640, 120
DRIFT_WIDTH_PX, DRIFT_PANEL_PX = 960, 150
BARS_WIDTH_PX, BARS_HEIGHT_PX, BAR_LABEL_PX = 960, 480, 70
STRIP_FRAMES = 5
SMOOTHED_SHARE = 0.05


@dataclass(frozen=True)
class Axes:
    """A rectangle of a picture with a value axis.

    left, top, right, bottom: pixels. low, high: the values at bottom and top.
    """

    left: float
    top: float
    right: float
    bottom: float
    low: float
    high: float

    def y(self, value: float) -> float:
        """Return the pixel row of a value; values outside the range lie on its border."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return self.bottom + (self.top - self.bottom) * share

    def x(self, share: float) -> float:
        """Return the pixel column at a share (0 to 1) of the width."""
        return self.left + (self.right - self.left) * share

    def draw_grid(self, draw: ImageDraw.ImageDraw, lines: int, label: Callable[[float], str]) -> None:
        """Draw horizontal lines from bottom to top, each with its value on the left."""
        for line in range(lines + 1):
            value = self.low + (self.high - self.low) * line / lines
            draw.line((self.left, self.y(value), self.right, self.y(value)), fill=GRID if line else INK)
            draw.text((self.left - 6, self.y(value)), label(value), fill=INK, font=_font(12), anchor="rm")

    def draw_line(self, draw: ImageDraw.ImageDraw, points: Sequence[tuple[float, float]], color: str) -> None:
        """Connect points of (share of the width, value); a single point is drawn as a dot."""
        path = [(self.x(share), self.y(value)) for share, value in points]
        if len(path) > 1:
            draw.line(path, fill=color, width=2)
        else:
            self.draw_dot(draw, points[0], color, radius_px=2)

    def draw_dot(
        self, draw: ImageDraw.ImageDraw, point: tuple[float, float], color: str, *, radius_px: int
    ) -> None:
        """Draw a dot at (share of the width, value)."""
        x, y = self.x(point[0]), self.y(point[1])
        draw.ellipse((x - radius_px, y - radius_px, x + radius_px, y + radius_px), fill=color)


TRAINING_TITLES = {
    "loss": "loss",
    "ode": "distance from where the teacher's steps lead",
    "generator": "student loss (its size says little; motion and samples say more)",
    "critic": "loss of the fake model (should settle, not climb)",
    "gradient": "DMD gradient",
    "cfg": "guidance loss",
    "base": "base loss",
    "motion": "motion, 1 is as much as in the data, 0 static",
}


def plot_training(history: Sequence[dict[str, float]], *, total_steps: int) -> Image.Image:
    """Draw a panel for every measure, smoothed over the raw values.

    Args:
        history: one row for each step: "step" and measures by name, some of which may be missing.
        total_steps: the right end of the axis.
    """
    names = [name for name in TRAINING_TITLES if any(_finite(row.get(name)) for row in history)]
    image = Image.new("RGB", (WIDTH_PX, TRAINING_PANEL_PX * max(1, len(names))), PAPER)
    draw = ImageDraw.Draw(image)
    for row, name in enumerate(names):
        points = [
            (entry["step"] / max(1, total_steps), entry[name])
            for entry in history
            if _finite(entry.get(name))
        ]
        axes = _draw_training_panel(draw, TRAINING_TITLES[name], points, top=row * TRAINING_PANEL_PX)
        draw.text((axes.right, axes.bottom + 2), f"step {total_steps}", fill=INK, font=_font(12), anchor="ra")
    return image


def _draw_training_panel(
    draw: ImageDraw.ImageDraw, title: str, points: list[tuple[float, float]], *, top: int
) -> Axes:
    values = [value for _, value in points]
    low, high = _padded(min(values), float(np.quantile(values, 0.98)), share=0.1)
    axes = Axes(64, top + 24, WIDTH_PX - 16, top + TRAINING_PANEL_PX - 18, low, high)
    draw.text((axes.left, top + 6), f"{title}: {values[-1]:.4g}", fill=INK, font=_font(12))
    axes.draw_grid(draw, 2, "{:.3g}".format)
    for color, line in ((RAW, values), (LINE, smoothed(values))):
        axes.draw_line(draw, [(share, value) for (share, _), value in zip(points, line, strict=True)], color)
    return axes


def smoothed(values: Sequence[float]) -> list[float]:
    """Return the running mean over ``SMOOTHED_SHARE`` of the values, centered."""
    half = max(1, round(len(values) * SMOOTHED_SHARE / 2)) if len(values) > 4 else 0
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = [(max(0, i - half), min(len(values), i + half + 1)) for i in range(len(values))]
    return [float((sums[last] - sums[first]) / (last - first)) for first, last in ends]


def plot_bars(bars: Mapping[str, float], *, title: str) -> Tensor:
    """Return a bar plot of percentages.

    Args:
        bars: label to share (0.01 is drawn as 1 %), drawn from left to right; the color alternates when the part of
            the label before the first dot changes.
        title: one line.

    Returns:
        (1, 480, 960, 3) in [0, 1].
    """
    image = Image.new("RGB", (BARS_WIDTH_PX, BARS_HEIGHT_PX), PAPER)
    draw = ImageDraw.Draw(image)
    highest = _round_up(max(bars.values(), default=0.0))
    axes = Axes(80, 56, BARS_WIDTH_PX - 24, BARS_HEIGHT_PX - 64, 0.0, highest)
    draw.text((axes.left, 16), title, fill=INK, font=_font(16))
    axes.draw_grid(draw, 4, "{:.2%}".format)
    _draw_bars(draw, axes, bars)
    return to_tensor(image)


def _draw_bars(draw: ImageDraw.ImageDraw, axes: Axes, bars: Mapping[str, float]) -> None:
    width = 1 / max(1, len(bars))
    labeled = max(1, round(BAR_LABEL_PX / (width * (axes.right - axes.left))))
    groups = list(dict.fromkeys(label.split(".")[0] for label in bars))
    for i, (label, value) in enumerate(bars.items()):
        left, right = axes.x(width * (i + 0.15)), axes.x(width * (i + 0.85))
        color = BAR_COLORS[groups.index(label.split(".")[0]) % 2]
        draw.rectangle((left, axes.y(value), right, axes.bottom), color)
        if i % labeled == 0:
            text = label.replace("_blocks", "")
            draw.text((axes.x(width * (i + 0.5)), axes.bottom + 8), text, INK, _font(12), anchor="ma")
    draw.text((axes.left, BARS_HEIGHT_PX - 24), "  ".join(groups), INK, _font(13))


def frame_strips(clips: Tensor) -> Image.Image:
    """Show clips as rows of evenly spaced frames.

    Args:
        clips: (B, T, H, W, 3) in [0, 1].
    """
    shown = clips[:, torch.linspace(0, clips.shape[1] - 1, min(STRIP_FRAMES, clips.shape[1])).round().long()]
    sheet = torch.cat([torch.cat(list(clip), dim=1) for clip in shown])
    image = to_image(sheet)
    size = (WIDTH_PX, max(1, round(image.height * WIDTH_PX / image.width)))
    return image.resize(
        size, Image.Resampling.NEAREST if image.width < WIDTH_PX else Image.Resampling.LANCZOS
    )


def stacked(images: Sequence[Image.Image]) -> Image.Image:
    """Put pictures of one width below each other."""
    width, height = max(image.width for image in images), sum(image.height for image in images)
    sheet = Image.new("RGB", (width, height), PAPER)
    top = 0
    for image in images:
        sheet.paste(image, (0, top))
        top += image.height
    return sheet


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _padded(low: float, high: float, *, share: float, least: float = 1e-6) -> tuple[float, float]:
    """Return a range to draw; an empty one is widened by a share of its value, at least by ``least``."""
    if high - low >= 1e-6:
        return low, high
    margin = max(abs(high) * share, least)
    return low - margin, high + margin


def _round_up(value: float) -> float:
    """Return the next of 1, 2, 5, 10, 20... ten-thousandths."""
    for step in (m * 10.0**e for e in range(-4, 3) for m in (1, 2, 5)):
        if value <= step:
            return step
    return max(value, 1e-4)

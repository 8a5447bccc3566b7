"""Draw how good a clip is: a radar of its measures and curves over time, of one clip or of two."""

import math
from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw
from torch import Tensor

from ..store.pictures import to_tensor
from . import BAR_COLORS, DRIFT_PANEL_PX, DRIFT_WIDTH_PX, GRID, INK, PAPER, Axes, _font, _padded

RADAR_PX, RADAR_RADIUS_PX = 420, 150
CURVES = {
    "motion": "change from frame to frame (percent of full brightness)",
    "sharpness": "sharpness",
    "color_drift": "color difference from the first frame (CIEDE2000)",
}

Spokes = Mapping[str, Sequence[float | None]]
"""By a measure's name, the share of the radius for each clip, 0 worst and 1 best."""


def plot_quality(
    spokes: Spokes, curves: Sequence[Mapping[str, Sequence[float]]], *, seconds: float
) -> Tensor:
    """Draw the radar above the curves.

    Args:
        curves: for each clip, the curves by their names in ``CURVES``.
        seconds: the right end of the time axis, which is the length of the longest clip.

    Returns:
        (1, H, W, 3) in [0, 1].
    """
    names = [name for name in CURVES if any(len(each.get(name, ())) > 1 for each in curves)]
    image = Image.new("RGB", (DRIFT_WIDTH_PX, RADAR_PX + DRIFT_PANEL_PX * len(names)), PAPER)
    draw = ImageDraw.Draw(image)
    _draw_radar(draw, spokes, num_clips=len(curves))
    longest = max(len(each["sharpness"]) for each in curves)
    for row, name in enumerate(names):
        lines = [each.get(name, ()) for each in curves]
        axes = _draw_panel(draw, CURVES[name], lines, top=RADAR_PX + row * DRIFT_PANEL_PX, longest=longest)
        draw.text((axes.right, axes.bottom + 4), f"{seconds:.1f} s", fill=INK, font=_font(13), anchor="ra")
    return to_tensor(image)


def _draw_radar(draw: ImageDraw.ImageDraw, spokes: Spokes, *, num_clips: int) -> None:
    center = (DRIFT_WIDTH_PX / 2, RADAR_PX / 2)
    angles = [2 * math.pi * i / max(1, len(spokes)) - math.pi / 2 for i in range(len(spokes))]

    def point(angle: float, share: float) -> tuple[float, float]:
        reach = RADAR_RADIUS_PX * share
        return center[0] + reach * math.cos(angle), center[1] + reach * math.sin(angle)

    for share in (0.25, 0.5, 0.75, 1.0) if len(spokes) > 1 else ():
        draw.polygon([point(angle, share) for angle in angles], outline=GRID)
    for name, angle in zip(spokes, angles, strict=True):
        draw.line((*center, *point(angle, 1)), fill=GRID)
        side = "m" if abs(math.cos(angle)) < 0.2 else "l" if math.cos(angle) > 0 else "r"
        draw.text(point(angle, 1.12), name, fill=INK, font=_font(13), anchor=f"{side}m")
    for clip in range(num_clips):
        shares = [values[clip] for values in spokes.values()]
        outline = [point(a, max(s, 0.01)) for a, s in zip(angles, shares, strict=True) if s is not None]
        if len(outline) > 1:
            draw.line([*outline, outline[0]], fill=BAR_COLORS[clip], width=3)
        if num_clips > 1:
            draw.text((24, 20 + 22 * clip), "AB"[clip], fill=BAR_COLORS[clip], font=_font(18))
    draw.text((DRIFT_WIDTH_PX - 20, RADAR_PX - 12), "rim: best", fill=INK, font=_font(13), anchor="rd")


def _draw_panel(
    draw: ImageDraw.ImageDraw, title: str, lines: Sequence[Sequence[float]], *, top: int, longest: int
) -> Axes:
    every = [value for line in lines for value in line]
    low, high = _padded(min(*every, 0.0), max(every), share=0.0, least=0.5)
    axes = Axes(70, top + 30, DRIFT_WIDTH_PX - 20, top + DRIFT_PANEL_PX - 22, low, high)
    draw.text((axes.left, top + 8), title, fill=INK, font=_font(13))
    axes.draw_grid(draw, 2, "{:.3g}".format)
    for line, color in zip(lines, BAR_COLORS, strict=False):
        if line:
            axes.draw_line(draw, [(i / max(1, longest - 1), value) for i, value in enumerate(line)], color)
    return axes

"""Draw the measures of a run of windows as one picture."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

WIDTH_PX, PANEL_PX, MARGIN_PX = 960, 150, 70
_PAPER, _INK, _GRID, _LINE, _BAD = "#ffffff", "#202020", "#d8d8d8", "#1f6fd0", "#d03030"


@dataclass(frozen=True)
class Panel:
    """One measure over the windows; ``is_bad`` marks points in red."""

    title: str
    measure: str
    is_bad: Callable[[float], bool] | None = None


PANELS = (
    Panel("colour shift from the first window (delta E)", "color_shift"),
    Panel("brightness (mean L* / 100)", "brightness"),
    Panel("sharpness", "sharpness"),
    Panel(
        "motion at the seam / motion beside it (0.5 to 2 is unseen)",
        "seam_motion",
        lambda v: not 0.5 <= v <= 2,
    ),
    Panel("turn of the motion since its prompt began (degrees)", "turned_deg"),
    Panel("colour step at the seam (delta E)", "seam_color_shift"),
    Panel("likeness to the first frame (cosine)", "identity"),
)


def plot_drift(windows: list[dict[str, float]]) -> Tensor:
    """Draw every measure that the windows have.

    Args:
        windows: the measures of every window, in order.

    Returns:
        (1, H, W, 3) in [0, 1].
    """
    panels = [panel for panel in PANELS if any(panel.measure in window for window in windows)]
    image = Image.new("RGB", (WIDTH_PX, PANEL_PX * max(1, len(panels))), _PAPER)
    draw = ImageDraw.Draw(image)
    for row, panel in enumerate(panels):
        values = [window.get(panel.measure) for window in windows]
        _draw_panel(draw, panel, values, top=row * PANEL_PX)
    return torch.from_numpy(np.asarray(image).copy()).float()[None] / 255


def _draw_panel(draw: ImageDraw.ImageDraw, panel: Panel, values: list[float | None], *, top: int) -> None:
    font = ImageFont.load_default(13)
    low, high = _value_range([v for v in values if v is not None])
    upper, lower = top + 30, top + PANEL_PX - 22
    draw.text((MARGIN_PX, top + 8), panel.title, fill=_INK, font=font)
    for share in (0.0, 0.5, 1.0):
        y = lower + (upper - lower) * share
        draw.line((MARGIN_PX, y, WIDTH_PX - 20, y), fill=_GRID)
        draw.text((8, y - 8), f"{low + (high - low) * share:.3g}", fill=_INK, font=font)
    points = []
    for index, value in enumerate(values):
        if value is not None:
            x = MARGIN_PX + (WIDTH_PX - 20 - MARGIN_PX) * index / max(1, len(values) - 1)
            points.append((x, lower + (upper - lower) * (value - low) / (high - low), value))
    if len(points) > 1:
        draw.line([(x, y) for x, y, _ in points], fill=_LINE, width=2)
    for x, y, value in points:
        bad = panel.is_bad is not None and panel.is_bad(value)
        draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=_BAD if bad else _LINE)
    draw.text((WIDTH_PX - 90, lower + 4), f"window {len(values)}", fill=_INK, font=font)


def _value_range(values: list[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    if high - low < 1e-6:
        low, high = low - 0.5, high + 0.5
    return low, high

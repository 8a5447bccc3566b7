"""Plot how much a long video drifts from window to window: colors, sharpness, motion, and the steady band of each."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw
from torch import Tensor

from ..store.pictures import to_tensor
from . import BAD, DRIFT_PANEL_PX, DRIFT_WIDTH_PX, INK, LINE, PAPER, Axes, _font, _padded

STEADY = "#e9f5e9"
VERDICT_LETTERS, VERDICT_LINE_PX = 118, 22


@dataclass(frozen=True)
class DriftPanel:
    """One measure over the windows.

    steady: the band in which nobody sees a difference. scale: the smallest range to draw, so that a tiny change looks
    tiny. of_first: both are shares of the first window's value. remedy: what to do outside the band.
    """

    title: str
    measure: str
    steady: tuple[float, float]
    scale: tuple[float, float]
    remedy: str
    of_first: bool = False

    def in_units(self, limits: tuple[float, float], first: float) -> tuple[float, float]:
        """Return limits in the measure's unit; ``first`` is the value of the first window that has one."""
        return (limits[0] * first, limits[1] * first) if self.of_first else limits

    def bad_windows(self, windows: Sequence[Mapping[str, float]]) -> list[int]:
        """Return the numbers, from 1 on, of the windows outside the band."""
        values = [window.get(self.measure) for window in windows]
        known = [value for value in values if value is not None]
        low, high = self.in_units(self.steady, known[0]) if known else self.steady
        return [n for n, value in enumerate(values, 1) if value is not None and not low <= value <= high]


HOLD_COLORS = "Set color_anchor to 0.5 to 1 if the video is one continuous scene."
ANOTHER_TRY = "Make these windows again with another seed, or set overlap (known_frames) higher."
DRIFT_PANELS = (
    DriftPanel("color shift from the first window (delta E)", "color_shift", (0, 3), (0, 10), HOLD_COLORS),
    DriftPanel(
        "brightness (mean L* / 100)", "brightness", (0.9, 1.1), (0.5, 1.5), HOLD_COLORS, of_first=True
    ),
    DriftPanel("sharpness", "sharpness", (0.6, 1.6), (0, 2), ANOTHER_TRY, of_first=True),
    DriftPanel(
        "motion at the seam / motion beside it",
        "seam_motion",
        (0.5, 2),
        (0, 4),
        "Set reroll_threshold (seam_limit) to 2, so that such windows are made again.",
    ),
    DriftPanel(
        "turn of the motion since its prompt began (degrees)",
        "turned_deg",
        (0, 45),
        (0, 180),
        "Set turn_limit to 20 if the motion should keep its way.",
    ),
    DriftPanel("color step at the seam (delta E)", "seam_color_shift", (0, 3), (0, 10), HOLD_COLORS),
    DriftPanel("likeness to the first frame (cosine)", "identity", (0.8, 1.001), (0.5, 1), ANOTHER_TRY),
)


def plot_drift(windows: list[dict[str, float]], verdict: Sequence[str] = ()) -> Tensor:
    """Draw every measure that the windows have, its steady band shaded.

    Args:
        windows: the measures of every window, in order.
        verdict: sentences to write above the plot.

    Returns:
        (1, H, W, 3) in [0, 1].
    """
    panels = [panel for panel in DRIFT_PANELS if any(panel.measure in window for window in windows)]
    lines = [line for sentence in verdict for line in textwrap.wrap(sentence, VERDICT_LETTERS)]
    head = VERDICT_LINE_PX * (len(lines) + 1) if lines else 0
    image = Image.new("RGB", (DRIFT_WIDTH_PX, head + DRIFT_PANEL_PX * max(1, len(panels))), PAPER)
    draw = ImageDraw.Draw(image)
    draw.multiline_text((16, 10), "\n".join(lines), fill=INK, font=_font(15), spacing=5)
    for row, panel in enumerate(panels):
        values = [window.get(panel.measure) for window in windows]
        _draw_drift_panel(draw, panel, values, top=head + row * DRIFT_PANEL_PX)
    return to_tensor(image)


def _draw_drift_panel(
    draw: ImageDraw.ImageDraw, panel: DriftPanel, values: list[float | None], *, top: int
) -> None:
    last = max(1, len(values) - 1)
    points = [(index / last, value) for index, value in enumerate(values) if value is not None]
    first = points[0][1]
    low, high = panel.in_units(panel.scale, first)
    low, high = min(low, *(v for _, v in points)), max(high, *(v for _, v in points))
    low, high = _padded(low, high, share=0.0, least=0.5)
    axes = Axes(70, top + 30, DRIFT_WIDTH_PX - 20, top + DRIFT_PANEL_PX - 22, low, high)
    steady = panel.in_units(panel.steady, first)
    draw.rectangle((axes.left, axes.y(steady[1]), axes.right, axes.y(steady[0])), fill=STEADY)
    draw.text((axes.left, top + 8), panel.title, fill=INK, font=_font(13))
    axes.draw_grid(draw, 2, "{:.3g}".format)
    axes.draw_line(draw, points, LINE)
    for point in points:
        is_steady = steady[0] <= point[1] <= steady[1]
        axes.draw_dot(draw, point, LINE if is_steady else BAD, radius_px=3)
    draw.text((axes.right, axes.bottom + 4), f"window {len(values)}", fill=INK, font=_font(13), anchor="ra")

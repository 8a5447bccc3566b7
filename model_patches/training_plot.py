"""Draw a training run: losses and motion over the steps, and sample clips as strips of frames."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

WIDTH_PX, PANEL_PX, LEFT_PX, RIGHT_PX = 640, 120, 64, 16
STRIP_FRAMES = 5
SMOOTHED_SHARE = 0.05
_PAPER, _INK, _GRID, _RAW, _LINE = "#ffffff", "#202020", "#d8d8d8", "#b9cfee", "#1f6fd0"
TITLES = {
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
        history: a row a step: "step" and measures by name; a measure may be missing from some.
        total_steps: the right end of the axis.
    """
    names = [name for name in TITLES if any(_finite(row.get(name)) for row in history)]
    image = Image.new("RGB", (WIDTH_PX, PANEL_PX * max(1, len(names))), _PAPER)
    draw = ImageDraw.Draw(image)
    for row, name in enumerate(names):
        points = [(entry["step"], entry[name]) for entry in history if _finite(entry.get(name))]
        _draw_panel(draw, TITLES[name], points, top=row * PANEL_PX, total_steps=total_steps)
    return image


def frame_strips(clips: Tensor, *, width_px: int = WIDTH_PX) -> Image.Image:
    """Show clips as rows of evenly spaced frames.

    Args:
        clips: (B, T, H, W, 3) in [0, 1].
    """
    shown = clips[:, torch.linspace(0, clips.shape[1] - 1, min(STRIP_FRAMES, clips.shape[1])).round().long()]
    sheet = torch.cat([torch.cat(list(clip), dim=1) for clip in shown])
    image = Image.fromarray(sheet.clamp(0, 1).mul(255).round().byte().cpu().numpy())
    size = (width_px, max(1, round(image.height * width_px / image.width)))
    return image.resize(
        size, Image.Resampling.NEAREST if width_px > image.width else Image.Resampling.LANCZOS
    )


def stacked(images: Sequence[Image.Image]) -> Image.Image:
    """Put pictures of one width below each other."""
    sheet = Image.new(
        "RGB", (max(image.width for image in images), sum(image.height for image in images)), _PAPER
    )
    top = 0
    for image in images:
        sheet.paste(image, (0, top))
        top += image.height
    return sheet


def to_tensor(image: Image.Image) -> Tensor:
    """Return a picture as the host's IMAGE: (1, H, W, 3) in [0, 1]."""
    return torch.from_numpy(np.asarray(image.convert("RGB"), dtype=np.float32) / 255.0)[None]


def smoothed(values: Sequence[float], share: float = SMOOTHED_SHARE) -> list[float]:
    """Return the running mean over a share of the values, from both sides."""
    half = max(1, round(len(values) * share / 2)) if len(values) > 4 else 0
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = [(max(0, i - half), min(len(values), i + half + 1)) for i in range(len(values))]
    return [float((sums[last] - sums[first]) / (last - first)) for first, last in ends]


def _draw_panel(
    draw: ImageDraw.ImageDraw, title: str, points: list[tuple[float, float]], *, top: int, total_steps: int
) -> None:
    font = ImageFont.load_default(12)
    values = [value for _, value in points]
    low, high = _value_range(values)
    upper, lower = top + 24, top + PANEL_PX - 18

    def place(step: float, value: float) -> tuple[float, float]:
        x = LEFT_PX + (WIDTH_PX - RIGHT_PX - LEFT_PX) * step / max(1, total_steps)
        return x, lower + (upper - lower) * (min(max(value, low), high) - low) / (high - low)

    draw.text((LEFT_PX, top + 6), f"{title}: {values[-1]:.4g}", fill=_INK, font=font)
    for share in (0.0, 0.5, 1.0):
        y = lower + (upper - lower) * share
        draw.line((LEFT_PX, y, WIDTH_PX - RIGHT_PX, y), fill=_GRID)
        draw.text((LEFT_PX - 6, y), f"{low + (high - low) * share:.3g}", fill=_INK, font=font, anchor="rm")
    draw.text((WIDTH_PX - RIGHT_PX, lower + 2), f"step {total_steps}", fill=_INK, font=font, anchor="ra")
    for colour, line in ((_RAW, values), (_LINE, smoothed(values))):
        path = [place(step, value) for (step, _), value in zip(points, line, strict=True)]
        if len(path) > 1:
            draw.line(path, fill=colour, width=2)
        else:
            draw.ellipse((path[0][0] - 2, path[0][1] - 2, path[0][0] + 2, path[0][1] + 2), fill=colour)


def _value_range(values: list[float]) -> tuple[float, float]:
    """Return the range to draw: all values but the few that would flatten the rest."""
    low, high = float(np.quantile(values, 0.0)), float(np.quantile(values, 0.98))
    if high - low < 1e-9:
        margin = max(abs(high) * 0.1, 1e-6)
        return low - margin, high + margin
    return low, high


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)

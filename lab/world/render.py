"""Draw scenes as pixels with signed distance functions on the torus; edges are anti-aliased over one pixel."""

import math

import torch
from torch import Tensor

from .scenes import BACKGROUNDS, COLOURS, SECOND_RADIUS_PX, SHAPES, SIDE_PX, Scenes


def wrapped_offsets(centre_px: Tensor) -> tuple[Tensor, Tensor]:
    """Return each pixel's offset from a centre, the short way around the torus.

    Args:
        centre_px: (..., 2) as (x, y).

    Returns:
        x and y offsets, each (..., SIDE_PX, SIDE_PX), in [-SIDE_PX/2, SIDE_PX/2).
    """
    grid = torch.arange(SIDE_PX) + 0.5
    half = SIDE_PX / 2
    x = (grid - centre_px[..., 0, None] + half) % SIDE_PX - half
    y = (grid - centre_px[..., 1, None] + half) % SIDE_PX - half
    shape = (*x.shape[:-1], SIDE_PX, SIDE_PX)
    return x[..., None, :].expand(shape), y[..., :, None].expand(shape)


def _triangle(x: Tensor, y: Tensor, r: Tensor) -> Tensor:
    slant = math.sqrt(3) / 2
    y = y - 0.15 * r
    return torch.maximum(y - 0.6 * r, slant * x.abs() - 0.5 * y - 0.6 * r)


def _star(x: Tensor, y: Tensor, r: Tensor) -> Tensor:
    sector = math.pi / 5
    angle = torch.atan2(x, -y)
    folded = ((angle + sector) % (2 * sector) - sector).abs()
    radius = (x * x + y * y).sqrt()
    px, py = radius * folded.cos(), radius * folded.sin()
    inner = 0.45 * 1.15
    ex, ey = inner * math.cos(sector) - 1.15, inner * math.sin(sector)
    length = math.hypot(ex, ey)
    return ((px - 1.15 * r) * ey - py * ex) / length


def _cross(x: Tensor, y: Tensor, r: Tensor) -> Tensor:
    arm_x = torch.maximum(x.abs() - r, y.abs() - 0.34 * r)
    arm_y = torch.maximum(x.abs() - 0.34 * r, y.abs() - r)
    return torch.minimum(arm_x, arm_y)


_DISTANCE = {
    "circle": lambda x, y, r: (x * x + y * y).sqrt() - 0.9 * r,
    "square": lambda x, y, r: torch.maximum(x.abs(), y.abs()) - 0.8 * r,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "ring": lambda x, y, r: ((x * x + y * y).sqrt() - 0.75 * r).abs() - 0.27 * r,
}


def coverage(shape: Tensor, centre_px: Tensor, radius_px: Tensor) -> Tensor:
    """Return how much of every pixel an object covers, in [0, 1].

    Args:
        shape: (N,) indices into ``SHAPES``.
        centre_px: (N, ..., 2) as (x, y).
        radius_px: (N,).

    Returns:
        (N, ..., SIDE_PX, SIDE_PX).
    """
    x, y = wrapped_offsets(centre_px)
    out = torch.empty(x.shape)
    for index, name in enumerate(SHAPES):
        rows = shape == index
        if rows.any():
            r = radius_px[rows].reshape(-1, *[1] * (x.ndim - 1))
            out[rows] = (0.5 - _DISTANCE[name](x[rows], y[rows], r)).clamp(0, 1)
    return out


def render_clip(scenes: Scenes, num_frames: int, *, first_frame: int = 0) -> Tensor:
    """Draw frames ``first_frame`` .. ``first_frame + num_frames - 1`` of every scene.

    Returns:
        (B, num_frames, 3, SIDE_PX, SIDE_PX) in [0, 1].
    """
    frames = torch.arange(first_frame, first_frame + num_frames)
    return render_along(
        scenes, scenes.start_px[:, None] + scenes.velocity_px[:, None] * frames[None, :, None]
    )


def render_along(scenes: Scenes, centre_px: Tensor) -> Tensor:
    """Draw every scene with its object at the given centres.

    Args:
        centre_px: (B, T, 2) as (x, y).

    Returns:
        (B, T, 3, SIDE_PX, SIDE_PX) in [0, 1].
    """
    alpha = coverage(scenes.shape, centre_px, scenes.radius_px)[:, :, None]
    palette = torch.tensor(list(COLOURS.values()))
    colour = palette[scenes.colour][:, None, :, None, None]
    canvas = _still_canvas(scenes)[:, None]
    return canvas * (1 - alpha) + colour * alpha


def _still_canvas(scenes: Scenes) -> Tensor:
    background = torch.tensor(list(BACKGROUNDS.values()))[scenes.background]
    canvas = background[:, :, None, None].expand(-1, 3, SIDE_PX, SIDE_PX)
    rows = scenes.second_colour >= 0
    if not rows.any():
        return canvas
    radius = torch.full((int(rows.sum()),), SECOND_RADIUS_PX)
    alpha = coverage(scenes.second_shape[rows], scenes.second_xy[rows], radius)[:, None]
    colour = torch.tensor(list(COLOURS.values()))[scenes.second_colour[rows]][:, :, None, None]
    canvas = canvas.clone()
    canvas[rows] = canvas[rows] * (1 - alpha) + colour * alpha
    return canvas

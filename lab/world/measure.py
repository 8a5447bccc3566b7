"""Read the truth back from decoded frames: colour, shape, place, mass, track, direction, speed."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .render import coverage
from .scenes import BACKGROUNDS, COLOURS, NUM_MOTIONS, SHAPES, SIDE_PX, SIZES, Scenes, velocities_px

MASS_TOLERANCE = 0.30
STRAIGHT_TOLERANCE_PX = 1.5


@dataclass(frozen=True)
class Reading:
    """What clips show; B clips of T frames.

    colour: (B, T) index into COLOURS. mass_px: (B, T) area of the object. centroid_px: (B, T, 2) circular centroid.
    shape: (B, T) index into SHAPES. size: (B, T) index into SIZES. place: (B,) of the first frame.
    """

    colour: Tensor
    mass_px: Tensor
    centroid_px: Tensor
    shape: Tensor
    size: Tensor
    place: Tensor


def alpha_over(frames: Tensor, background: Tensor, colour: Tensor) -> Tensor:
    """Return how much of ``colour`` over ``background`` each pixel shows: (B, T, H, W) from (B, T, 3, H, W)."""
    axis = (colour - background)[..., None, None]
    offset = frames - background[..., None, None]
    alpha = (offset * axis).sum(-3) / axis.square().sum(-3).clamp_min(1e-6)
    residual = (offset - alpha.unsqueeze(-3) * axis).square().sum(-3).sqrt()
    return alpha.clamp(0, 1) * (residual < 0.25)


def _backgrounds(frames: Tensor) -> Tensor:
    """Return the background's colour (B, T, 3): the palette entry nearest to the median pixel."""
    palette = torch.tensor(list(BACKGROUNDS.values()))
    median = frames.flatten(3).median(dim=-1).values
    return palette[(median[..., None, :] - palette).square().sum(-1).argmin(-1)]


def _colours(frames: Tensor, background: Tensor) -> Tensor:
    """Return the most present object colour (B, T), each pixel voting for the nearest of colours and background."""
    palette = torch.tensor(list(COLOURS.values()))
    pixels = frames.flatten(3).transpose(2, 3)
    to_background = (pixels - background[..., None, :]).square().sum(-1, keepdim=True)
    to_colours = torch.stack([(pixels - c).square().sum(-1) for c in palette], dim=-1)
    votes = torch.cat([to_colours, to_background], dim=-1).argmin(-1)
    return torch.stack([(votes == i).sum(-1) for i in range(len(palette))], dim=-1).argmax(-1)


def _circular_centroid(alpha: Tensor) -> Tensor:
    """Return the centroid on the torus, (..., 2) as (x, y) in pixels."""
    angle = (torch.arange(SIDE_PX) + 0.5) * (2 * math.pi / SIDE_PX)
    centre = []
    for mass in (alpha.sum(-2), alpha.sum(-1)):
        phase = torch.atan2((mass * angle.sin()).sum(-1), (mass * angle.cos()).sum(-1))
        centre.append(phase % (2 * math.pi) * SIDE_PX / (2 * math.pi))
    return torch.stack(centre, dim=-1)


def _centroid_offsets(shape: Tensor, radius_px: Tensor) -> Tensor:
    """Return centroid minus centre of shapes, (N, 2): a triangle's mass is not at its centre."""
    centre = torch.full((len(shape), 2), SIDE_PX / 2)
    return _circular_centroid(coverage(shape, centre, radius_px)) - centre


def _templates() -> tuple[Tensor, Tensor]:
    """Return shape and radius of every template, (S,) each."""
    shape = torch.arange(len(SHAPES)).repeat_interleave(len(SIZES))
    return shape, torch.tensor(list(SIZES.values())).repeat(len(SHAPES))


def _best_templates(alpha: Tensor, centroid: Tensor) -> Tensor:
    """Return the index of the best matching (shape, size) template by intersection over union, (N,)."""
    count, (shape, radius) = len(alpha), _templates()
    offsets = _centroid_offsets(shape, radius)
    scores = []
    for index in range(len(shape)):
        drawn = coverage(shape[index].expand(count), centroid - offsets[index], radius[index].expand(count))
        overlap = torch.minimum(drawn, alpha).sum((-1, -2))
        scores.append(overlap / torch.maximum(drawn, alpha).sum((-1, -2)).clamp_min(1e-6))
    return torch.stack(scores, -1).argmax(-1)


def read_clip(frames: Tensor, *, with_shape: str = "all") -> Reading:
    """Read clips.

    Args:
        frames: (B, T, 3, SIDE_PX, SIDE_PX); clamped to [0, 1] here.
        with_shape: "all" frames, only the "ends" (first and last; the others read -1) or "none".
    """
    frames = frames.float().clamp(0, 1)
    background = _backgrounds(frames)
    colour = _colours(frames, background)
    alpha = alpha_over(frames, background, torch.tensor(list(COLOURS.values()))[colour])
    centroid = _circular_centroid(alpha)
    num_frames = frames.shape[1]
    wanted = {"all": list(range(num_frames)), "ends": sorted({0, num_frames - 1}), "none": []}[with_shape]
    template = torch.full(colour.shape, -1)
    for t in wanted:
        template[:, t] = _best_templates(alpha[:, t], centroid[:, t])
    cell = (centroid[:, 0] * 3 / SIDE_PX).long().clamp(0, 2)
    return Reading(
        colour=colour,
        mass_px=alpha.sum((-1, -2)),
        centroid_px=centroid,
        shape=torch.where(template < 0, template, template // len(SIZES)),
        size=torch.where(template < 0, template, template % len(SIZES)),
        place=cell[:, 1] * 3 + cell[:, 0],
    )


def steps_of(track_px: Tensor) -> Tensor:
    """Return the steps of a track (B, T, 2) from frame to frame, the short way around the torus, (B, T - 1, 2)."""
    return (track_px.diff(dim=1) + SIDE_PX / 2) % SIDE_PX - SIDE_PX / 2


def motion_of(centroid_px: Tensor) -> tuple[Tensor, Tensor]:
    """Read motion and straightness of tracks.

    Args:
        centroid_px: (B, T, 2), T >= 2.

    Returns:
        The nearest of the 16 motions (B,) as ``Scenes.motion``, and the largest distance in pixels of any frame
        from the straight line of constant speed that fits the track best (B,).
    """
    steps = steps_of(centroid_px)
    track = torch.cat([torch.zeros_like(steps[:, :1]), steps.cumsum(1)], dim=1)
    time = torch.arange(track.shape[1], dtype=track.dtype)
    centred = time - time.mean()
    slope = (track * centred[:, None]).sum(1) / centred.square().sum()
    residual = track - track.mean(1, keepdim=True) - slope[:, None] * centred[:, None]
    motion = (slope[:, None] - velocities_px()).square().sum(-1).argmin(-1)
    return motion, residual.norm(dim=-1).amax(1)


def true_mass_px(scenes: Scenes) -> Tensor:
    """Return the object's area in pixels, (B,)."""
    centre = torch.full((len(scenes), 2), SIDE_PX / 2)
    return coverage(scenes.shape, centre, scenes.radius_px).sum((-1, -2))


def contrast(scenes: Scenes) -> Tensor:
    """Return the squared distance in RGB of the object's colour from its background's, (B,)."""
    colours, grounds = (torch.tensor(list(palette.values())) for palette in (COLOURS, BACKGROUNDS))
    return (colours[scenes.colour] - grounds[scenes.background]).square().sum(-1)


def centroid_offset_px(scenes: Scenes) -> Tensor:
    """Return the object's centroid minus its centre, (B, 2) as (x, y) in pixels."""
    return _centroid_offsets(scenes.shape, scenes.radius_px)


def score_clips(frames: Tensor, scenes: Scenes, allowed: Tensor | None = None) -> dict[str, Tensor]:
    """Score clips against their scenes; every value has shape (B,).

    Args:
        frames: (B, T, 3, SIDE_PX, SIDE_PX).
        scenes: the scenes that were asked for.
        allowed: (B, 16) bool, the futures an open caption allows; None where the caption is named.

    Returns:
        ``motion_right``, ``clean``, ``colour_right``, ``shape_right`` (last frame) as bool, ``motion`` (index),
        ``line_error_px`` and ``mass_error`` (largest relative error over frames).
    """
    reading = read_clip(frames, with_shape="ends")
    motion, line_error = motion_of(reading.centroid_px)
    if allowed is None:
        allowed = torch.nn.functional.one_hot(scenes.motion, NUM_MOTIONS).bool()
    motion_right = allowed.gather(1, motion[:, None])[:, 0]
    mass_error = (reading.mass_px / true_mass_px(scenes)[:, None] - 1).abs().amax(1)
    colour_right = (reading.colour == scenes.colour[:, None]).all(1)
    clean = (mass_error < MASS_TOLERANCE) & (line_error < STRAIGHT_TOLERANCE_PX) & motion_right & colour_right
    return {
        "motion_right": motion_right,
        "clean": clean,
        "colour_right": colour_right,
        "last_colour_right": reading.colour[:, -1] == scenes.colour,
        "last_shape_right": reading.shape[:, -1] == scenes.shape,
        "motion": motion,
        "line_error_px": line_error,
        "mass_error": mass_error,
    }

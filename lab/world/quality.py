"""Measures to judge distillation by: ghosts, trajectories, and which of the allowed futures a clip shows."""

import torch
from torch import Tensor

from .clip_metrics import laplacian_sharpness, temporal_flickering
from .measure import alpha_over, motion_of, read_clip, score_clips, true_mass_px
from .render import render_clip
from .scenes import BACKGROUNDS, COLOURS, SIDE_PX, Scenes, velocities_px

FAINT_ALPHA, SOLID_ALPHA = 0.15, 0.7
PRESENT_SHARE, SOLID_SHARE = 0.3, 0.5


def object_alpha(frames: Tensor, scenes: Scenes) -> Tensor:
    """Return how much of the true object's colour over the true background each pixel shows, (B, T, H, W)."""
    colours, grounds = (torch.tensor(list(palette.values())) for palette in (COLOURS, BACKGROUNDS))
    return alpha_over(frames, grounds[scenes.background][:, None], colours[scenes.colour][:, None])


def is_ghost(frames: Tensor, scenes: Scenes) -> Tensor:
    """Return whether the last frame shows an object that is present but see-through, (B,) bool.

    Present: at least ``PRESENT_SHARE`` of the true mass, pixels with an opacity below ``FAINT_ALPHA`` not counted.
    See-through: less than ``SOLID_SHARE`` of that has an opacity above ``SOLID_ALPHA``; an average of two futures is
    two objects of opacity one half.
    """
    alpha = object_alpha(frames[:, -1:].float().clamp(0, 1), scenes)[:, 0]
    mass = (alpha * (alpha > FAINT_ALPHA)).sum((-1, -2))
    solid = (alpha * (alpha > SOLID_ALPHA)).sum((-1, -2))
    return (mass > PRESENT_SHARE * true_mass_px(scenes)) & (solid < SOLID_SHARE * mass)


def trajectory_error_px(centroid_px: Tensor, allowed: Tensor) -> Tensor:
    """Return the mean distance of tracks (B, T, 2) from the nearest allowed future's, from their own start, (B,)."""
    time = torch.arange(centroid_px.shape[1], dtype=centroid_px.dtype)
    expected = velocities_px()[None, :, None] * time[None, None, :, None]
    moved = (centroid_px - centroid_px[:, :1])[:, None]
    apart = (moved - expected + SIDE_PX / 2) % SIDE_PX - SIDE_PX / 2
    error = apart.norm(dim=-1).mean(-1)
    return error.masked_fill(~allowed, torch.inf).amin(1)


def judge_clips(frames: Tensor, scenes: Scenes, allowed: Tensor) -> dict[str, Tensor]:
    """Judge clips one by one; every value is (B,).

    Args:
        frames: (B, T, 3, SIDE_PX, SIDE_PX); clamped to [0, 1] here.
        allowed: (B, 16) bool, the futures the caption allows.
    Returns:
        ``motion_accuracy``, ``clean_rate`` and ``ghost_share`` (0 or 1), ``sharpness`` (over the truth's),
        ``trajectory_error_px``, ``first_frame_psnr_db``, ``temporal_flickering`` (VBench), ``motion`` (index).
    """
    frames = frames.float().clamp(0, 1)
    truth = render_clip(scenes, frames.shape[1])
    scores = score_clips(frames, scenes, allowed)
    reading = read_clip(frames, with_shape="none")
    error = (frames[:, 0] - truth[:, 0]).square().flatten(1).mean(1)
    return {
        "motion_accuracy": scores["motion_right"].float(),
        "clean_rate": scores["clean"].float(),
        "ghost_share": is_ghost(frames, scenes).float(),
        "sharpness": laplacian_sharpness(frames) / laplacian_sharpness(truth),
        "trajectory_error_px": trajectory_error_px(reading.centroid_px, allowed),
        "first_frame_psnr_db": -10 * error.clamp_min(1e-10).log10(),
        "temporal_flickering": temporal_flickering(frames),
        "motion": motion_of(reading.centroid_px)[0].float(),
    }

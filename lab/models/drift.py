"""Errors as they add up over many windows of a long video, added to the known latents of training windows.

Shapes and colours melt into others, second objects come and go, and objects swerve: they turn a little at every
hand-over, and a model that takes the turn for the intended direction turns further. The target stays the truth: back to
the scene's own look, and to the direction that its caption allows.
"""

import functools
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ...model_patches.training.batch import TrainingBatch
from ...model_patches.training.losses import add_noise, denoised_estimate, per_clip
from ...model_patches.training.twin import Conditions, predict_velocity
from .. import world
from .data import CLIP_FRAMES, WINDOW_LATENTS, Dataset, Encoders, cached_shards, encode_clips, image_batch
from .run import stage_dir
from .source import Windows, WorldSource, with_image_states

MELTED_SHARE, MOST_MELTED = 0.6, 0.5
"""Share of windows that have begun to melt, and how far at most: beyond a half it would be another scene."""
SWERVED_SHARE, MOST_TURNED_DEG, MOST_PACE = 0.75, 40.0, 1.3
"""Share of windows that have swerved, and how far at most: open directions differ by 90 degrees, speeds by 2."""
KNOWABLE_FRAMES = 13
"""Frames that a training window can know, counted from the start of the clip."""


@dataclass(frozen=True)
class Melting:
    """What N training scenes melt into.

    latents: (N, 16, 7, 8, 8). image_states: (N, S, D), what the VLM sees of the last frame of latent ``start``.
    """

    latents: Tensor
    image_states: Tensor


def melted_scenes(scenes: world.Scenes, generator: torch.Generator) -> world.Scenes:
    """Return scenes of another shape; half get another colour, half gain or lose their second object."""
    count = len(scenes)

    def other(values: Tensor, kinds: int) -> Tensor:
        return (values + 1 + torch.randint(kinds - 1, (count,), generator=generator)) % kinds

    changes, toggles = torch.rand(2, count, generator=generator) < 0.5
    colour = torch.where(changes, other(scenes.colour, len(world.COLOURS)), scenes.colour)
    second = torch.where(scenes.second_colour < 0, other(scenes.colour, len(world.COLOURS)), -1)
    return replace(
        scenes,
        shape=other(scenes.shape, len(world.SHAPES)),
        colour=colour,
        second_colour=torch.where(toggles, second, scenes.second_colour),
    )


@torch.no_grad()
def load_melting(data: Dataset, scenes: world.Scenes) -> Melting:
    """Return what the training scenes melt into; missing shards are computed."""
    encoders = functools.cache(Encoders.trained)

    def encode(rows: slice) -> dict[str, Tensor]:
        into = melted_scenes(scenes[rows], torch.Generator().manual_seed(rows.start))
        clips = world.render_clip(into, CLIP_FRAMES)
        seen = clips[torch.arange(len(clips)), 4 * data.start[rows]]
        return {
            "latents": encode_clips(encoders().vae, clips).half(),
            "image_states": image_batch(encoders().vlm, encoders().llm_tokenizer, seen).half(),
        }

    return Melting(**cached_shards(stage_dir("data/train-1-melting"), len(scenes), encode))


def melted(
    melting: Melting,
    source: WorldSource,
    windows: Windows,
    batch: TrainingBatch,
    generator: torch.Generator,
) -> TrainingBatch:
    """Return a batch whose windows in mid-motion have begun to melt; the VLM, if used, sees the nearer scene.

    Args:
        batch: of ``windows``; it is not changed.
    """
    middle = (windows.start > 0).nonzero()[:, 0]
    share = MOST_MELTED * torch.rand(len(middle), generator=generator)
    share *= torch.rand(len(middle), generator=generator) < MELTED_SHARE
    rows, start = windows.rows[middle], windows.start[middle]
    steps = start[:, None] + torch.arange(WINDOW_LATENTS)
    into = melting.latents[rows[:, None], :, steps].float().transpose(1, 2)
    latents = batch.latents.clone()
    latents[middle] = latents[middle].lerp(into, per_clip(share, into))
    if not source.image_states:
        return replace(batch, latents=latents)
    nearer = share > MOST_MELTED / 2
    batch = with_image_states(batch, middle[nearer], melting.image_states[rows[nearer]])
    return replace(batch, latents=latents)


def swerved_way(scenes: world.Scenes, bend: Tensor, generator: torch.Generator) -> Tensor:
    """Return centres (B, KNOWABLE_FRAMES, 2) in pixels of objects that take their own direction at frame ``bend`` (B,).

    Until then they move up to ``MOST_TURNED_DEG`` off that direction, at another speed.
    """
    count = len(scenes)
    turn, pace = 2 * torch.rand(2, count, generator=generator) - 1
    angle = torch.deg2rad(MOST_TURNED_DEG * turn)
    x, y = (scenes.velocity_px * MOST_PACE ** pace[:, None]).unbind(1)
    came = torch.stack([x * angle.cos() - y * angle.sin(), x * angle.sin() + y * angle.cos()], dim=1)
    at_bend = scenes.start_px + scenes.velocity_px * bend[:, None]
    since = torch.arange(KNOWABLE_FRAMES) - bend[:, None]
    return at_bend[:, None] + came[:, None] * since[..., None]


@torch.no_grad()
def load_swerved(data: Dataset, scenes: world.Scenes) -> Tensor:
    """Return latents (N, 16, 4, 8, 8) of training scenes that swerve until the last frame of latent ``start``."""
    vae = functools.cache(Encoders.load_vae)

    def encode(rows: slice) -> dict[str, Tensor]:
        way = swerved_way(scenes[rows], 4 * data.start[rows], torch.Generator().manual_seed(rows.start))
        return {"latents": encode_clips(vae(), world.render_along(scenes[rows], way)).half()}

    return cached_shards(stage_dir("data/train-1-swerved"), len(scenes), encode)["latents"]


def swerved(
    latents: Tensor, windows: Windows, batch: TrainingBatch, generator: torch.Generator
) -> TrainingBatch:
    """Return a batch in which most windows in mid-motion know an object that has swerved.

    Args:
        latents: (N, 16, 4, 8, 8), from ``load_swerved``.
        batch: of ``windows``; it is not changed.
    """
    chance = torch.rand(len(windows.rows), generator=generator) < SWERVED_SHARE
    known_latents = batch.latents.clone()
    for row in ((windows.start > 0) & chance).nonzero()[:, 0].tolist():
        start, known = int(windows.start[row]), int(windows.num_known[row])
        known_latents[row, :, :known] = latents[windows.rows[row], :, start : start + known].float()
    return replace(batch, latents=known_latents)


@dataclass(frozen=True)
class Drift:
    """How N training scenes drift in a long video: what they melt into, and their latents when they swerve."""

    melting: Melting
    swerved: Tensor

    def add_to(
        self, source: WorldSource, windows: Windows, batch: TrainingBatch, generator: torch.Generator
    ) -> TrainingBatch:
        """Return the batch of these windows with drift in those that start in mid-motion."""
        batch = swerved(self.swerved, windows, batch, generator)
        return melted(self.melting, source, windows, batch, generator)


def load_drift(data: Dataset, scenes: world.Scenes) -> Drift:
    """Return how the training scenes drift; missing shards are computed."""
    return Drift(load_melting(data, scenes), load_swerved(data, scenes))


class DriftingSource:
    """Random windows of the world's scenes with the drift of a long video: what students are distilled on."""

    def __init__(self, source: WorldSource, drift: Drift) -> None:
        self.source, self.drift = source, drift

    def __len__(self) -> int:
        return len(self.source)

    def batch(self, rows: Tensor, generator: torch.Generator) -> TrainingBatch:
        """Return a random window of every row; those in mid-motion have drifted."""
        windows = self.source.windows(rows, generator)
        return self.drift.add_to(self.source, windows, self.source.window_batch(windows), generator)


SIGMAS = (0.4, 0.95)
"""Noise levels at which the errors are measured; above them the model does not recognize the clip."""
WORN_SHARE, MOST_WEAR = 0.75, 2.0
"""Share of windows that get errors, and the largest factor that the measured errors are multiplied by."""


@torch.no_grad()
def with_model_errors(
    model: nn.Module,
    source: WorldSource,
    windows: Windows,
    batch: TrainingBatch,
    generator: torch.Generator,
) -> TrainingBatch:
    """Return a batch with a model's errors in the known latents of windows in mid-motion.

    The errors are those of the window one latent earlier: the model's estimate from its noised clip, minus the clip.

    Args:
        batch: of ``windows``, (B, C, T, H, W) latents; they are not changed.
    """
    middle = (windows.start > 0).nonzero()[:, 0]
    if len(middle) == 0:
        return batch
    later = windows[middle]
    earlier = Windows(later.rows, later.family, later.start - 1, torch.ones_like(later.num_known))
    known = source.window_batch(earlier)
    error = estimated(model, known, generator) - known.latents
    wear = MOST_WEAR * torch.rand(len(middle), generator=generator)
    wear *= torch.rand(len(middle), generator=generator) < WORN_SHARE
    latents = batch.latents.clone()
    reached = error.shape[2] - 1
    latents[middle, :, :reached] += per_clip(wear, error) * error[:, :, 1:]
    return replace(batch, latents=latents)


def estimated(model: nn.Module, batch: TrainingBatch, generator: torch.Generator) -> Tensor:
    """Return a model's estimates of the clean clips from noised ones, (B, C, T, H, W)."""
    low, high = SIGMAS
    sigma = low + (high - low) * torch.rand(len(batch), generator=generator)
    noisy = add_noise(batch.latents, torch.randn(batch.latents.shape, generator=generator), sigma)
    velocity = predict_velocity(model, noisy, sigma, Conditions.of(batch, image=True))
    return denoised_estimate(noisy, velocity, sigma)


@dataclass(frozen=True)
class Wear:
    """The errors of known latents in a long video: drift, and the errors of the model as it is now."""

    model: nn.Module
    drift: Drift

    def add_to(
        self, source: WorldSource, windows: Windows, batch: TrainingBatch, generator: torch.Generator
    ) -> TrainingBatch:
        """Return the batch of these windows with errors in those that start in mid-motion."""
        batch = self.drift.add_to(source, windows, batch, generator)
        return with_model_errors(self.model, source, windows, batch, generator)

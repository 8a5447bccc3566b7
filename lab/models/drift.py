"""What errors come to after many windows of a long video, put on the known latents of training windows.

Shapes and colours melt into others, second objects come and go, and objects swerve: they turn a little at every
hand-over, and a model that takes the turn for their way turns on. The truth stays the answer: back to the scene's own
looks, and to the direction that its caption allows.
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
from .source import Windows, WorldSource, with_seen

MELTED_SHARE, MOST_MELTED = 0.6, 0.5
"""How many windows have begun to melt, and how far at most; from half on, it is another scene."""
SWERVED_SHARE, MOST_TURNED_DEG, MOST_PACE = 0.75, 40.0, 1.3
"""How many windows have swerved, and how far at most: open directions lie 90 degrees apart, speeds a factor of 2."""
KNOWABLE_FRAMES = 13
"""Frames up to the last one that a training window can know."""


@dataclass(frozen=True)
class Melting:
    """What N training scenes melt into.

    latents: (N, 16, 7, 8, 8). image_states: (N, S, D), what the VLM sees of the last frame of latent ``start``.
    """

    latents: Tensor
    image_states: Tensor


def melted_scenes(scenes: world.Scenes, generator: torch.Generator) -> world.Scenes:
    """Return scenes of another shape, half of them of another colour, half with a second object more or less."""
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
    """Return what the training scenes melt into, computing what is missing, a shard at a time."""
    encoders = functools.cache(Encoders)

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
    """Return a batch whose windows in mid-motion have begun to melt; the VLM, if it is asked, sees what is nearer.

    Args:
        batch: what ``source`` shows of ``windows``; it is not changed.
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
    batch = with_seen(batch, middle[nearer], melting.image_states[rows[nearer]])
    return replace(batch, latents=latents)


def swerved_way(scenes: world.Scenes, bend: Tensor, generator: torch.Generator) -> Tensor:
    """Return centres (B, KNOWABLE_FRAMES, 2) in pixels of objects that come to their own way at frame ``bend`` (B,).

    They move in a direction up to ``MOST_TURNED_DEG`` off their own, at another pace.
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
    """Return a batch most of whose windows in mid-motion know an object that has swerved.

    Args:
        latents: (N, 16, 4, 8, 8), of ``load_swerved``.
        batch: of ``windows``; it is not changed.
    """
    chance = torch.rand(len(windows.rows), generator=generator) < SWERVED_SHARE
    told = batch.latents.clone()
    for row in ((windows.start > 0) & chance).nonzero()[:, 0].tolist():
        start, known = int(windows.start[row]), int(windows.num_known[row])
        told[row, :, :known] = latents[windows.rows[row], :, start : start + known].float()
    return replace(batch, latents=told)


@dataclass(frozen=True)
class Drift:
    """What N training scenes come to in a long video: what they melt into, and latents of where they swerve."""

    melting: Melting
    swerved: Tensor

    def put_on(
        self, source: WorldSource, windows: Windows, batch: TrainingBatch, generator: torch.Generator
    ) -> TrainingBatch:
        """Return a batch of these windows that have drifted where they start in mid-motion."""
        told = swerved(self.swerved, windows, batch, generator)
        return melted(self.melting, source, windows, told, generator)


def load_drift(data: Dataset, scenes: world.Scenes) -> Drift:
    """Return what the training scenes come to, computing what is missing."""
    return Drift(load_melting(data, scenes), load_swerved(data, scenes))


class DriftingSource:
    """Random windows of the world's scenes as a long video hands them over: what students are distilled on."""

    def __init__(self, source: WorldSource, drift: Drift) -> None:
        self.source, self.drift = source, drift

    def __len__(self) -> int:
        return len(self.source)

    def batch(self, rows: Tensor, generator: torch.Generator) -> TrainingBatch:
        """Return a random window of every row; those in mid-motion have drifted."""
        windows = self.source.windows(rows, generator)
        return self.drift.put_on(self.source, windows, self.source.shown(windows), generator)


SIGMAS = (0.4, 0.95)
"""Noise levels at which the errors are made; above them the model does not find the clip again."""
WORN_SHARE, MOST_WEAR = 0.75, 2.0
"""How many windows have errors, and up to how many times as large as they were made."""


@torch.no_grad()
def worn(
    model: nn.Module,
    source: WorldSource,
    windows: Windows,
    batch: TrainingBatch,
    generator: torch.Generator,
) -> TrainingBatch:
    """Return a batch whose windows in mid-motion know their latents with a model's errors.

    The errors are of the window one latent earlier: what the model finds in its noised clip, minus the clip.

    Args:
        batch: of ``windows``, (B, C, T, H, W) latents; they are not changed.
    """
    middle = (windows.start > 0).nonzero()[:, 0]
    if len(middle) == 0:
        return batch
    later = windows[middle]
    earlier = Windows(later.rows, later.family, later.start - 1, torch.ones_like(later.num_known))
    known = source.shown(earlier)
    error = made(model, known, generator) - known.latents
    wear = MOST_WEAR * torch.rand(len(middle), generator=generator)
    wear *= torch.rand(len(middle), generator=generator) < WORN_SHARE
    latents = batch.latents.clone()
    reached = error.shape[2] - 1
    latents[middle, :, :reached] += per_clip(wear, error) * error[:, :, 1:]
    return replace(batch, latents=latents)


def made(model: nn.Module, batch: TrainingBatch, generator: torch.Generator) -> Tensor:
    """Return what a model finds in noised clips, (B, C, T, H, W)."""
    low, high = SIGMAS
    sigma = low + (high - low) * torch.rand(len(batch), generator=generator)
    noisy = add_noise(batch.latents, torch.randn(batch.latents.shape, generator=generator), sigma)
    velocity = predict_velocity(model, noisy, sigma, Conditions.of(batch, image=True))
    return denoised_estimate(noisy, velocity, sigma)


@dataclass(frozen=True)
class Wear:
    """What a long video does to known latents: they drift, and have the errors of the model as it is now."""

    model: nn.Module
    drift: Drift

    def put_on(
        self, source: WorldSource, windows: Windows, batch: TrainingBatch, generator: torch.Generator
    ) -> TrainingBatch:
        """Return a batch of these windows, worn where they start in mid-motion."""
        told = self.drift.put_on(source, windows, batch, generator)
        return worn(self.model, source, windows, told, generator)

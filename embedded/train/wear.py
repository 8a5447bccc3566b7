"""Known latents as a long video hands them over: worn, with the errors of the model that made them.

In training a window's known latents are the truth, in a long video they are the model's own, and what each window gets
wrong the next one takes for given. Two wears are put on known latents, and the truth stays the answer: the errors that
the model makes now (the idea of "Stable Video Infinity: Infinite-Length Video Generation with Error Recycling", 2025),
and what errors come to after many windows: shapes and colours that melt into others, second objects that come and go.
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
from .source import Windows, WorldSource

SIGMAS = (0.4, 0.95)
"""Noise levels at which the errors are made; above them the model does not find the clip again."""
WORN_SHARE, MOST_WEAR = 0.75, 2.0
"""How many windows have errors, and up to how many times as large as they were made."""
MELTED_SHARE, MOST_MELTED = 0.6, 0.5
"""How many windows have begun to melt, and how far at most; from half on, it is another scene."""


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
    folder = stage_dir("data") / "train-1-melting"
    folder.mkdir(exist_ok=True)
    encoders = functools.cache(Encoders)

    def encode(rows: slice) -> dict[str, Tensor]:
        into = melted_scenes(scenes[rows], torch.Generator().manual_seed(rows.start))
        clips = world.render_clip(into, CLIP_FRAMES)
        seen = clips[torch.arange(len(clips)), 4 * data.start[rows]]
        return {
            "latents": encode_clips(encoders().vae, clips).half(),
            "image_states": image_batch(encoders().vlm, encoders().llm_tokenizer, seen).half(),
        }

    return Melting(**cached_shards(folder, len(scenes), encode))


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
    states, null_states = batch.states.clone(), batch.null_states.clone()
    nearer = share > MOST_MELTED / 2
    seen = melting.image_states[rows[nearer]].float()
    states[middle[nearer], : seen.shape[1]] = seen
    null_states[middle[nearer], : seen.shape[1]] = seen
    return replace(batch, latents=latents, states=states, null_states=null_states)


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
    """What a long video does to known latents: they melt, and have the errors of the model as it is now."""

    model: nn.Module
    melting: Melting

    def put_on(
        self, source: WorldSource, windows: Windows, batch: TrainingBatch, generator: torch.Generator
    ) -> TrainingBatch:
        """Return a batch of these windows, worn where they start in mid-motion."""
        told = melted(self.melting, source, windows, batch, generator)
        return worn(self.model, source, windows, told, generator)


class MeltingSource:
    """Random windows of the world's scenes as a long video hands them over: what students are distilled on."""

    def __init__(self, source: WorldSource, melting: Melting) -> None:
        self.source, self.melting = source, melting

    def __len__(self) -> int:
        return len(self.source)

    def batch(self, rows: Tensor, generator: torch.Generator) -> TrainingBatch:
        """Return a random window of every row; those in mid-motion have begun to melt."""
        windows = self.source.windows(rows, generator)
        return melted(self.melting, self.source, windows, self.source.shown(windows), generator)

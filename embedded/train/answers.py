"""Windows whose answer the world knows: what a student learns from once it follows its teacher.

A named caption, or known latents in motion, leave one future; what a long video hands over should go on as the world
draws it on. Where an open caption leaves several, the student is let choose: a first window that it made from a noise
is drawn again on the nearest way that the caption allows, and from the noise levels on at which a future is chosen
that is what this noise should come to (pairs of noise and clip, as in Liu, Gong and Liu, "Flow Straight and Fast:
Learning to Generate and Transfer Data with Rectified Flow", 2022; the clips are mended here).
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ...model_patches.training.batch import TrainingBatch
from .. import world
from ..world.scenes import held_out
from .data import WINDOW_LATENTS, Dataset, Encoders, cached_shards, decode_clips, encode_clips
from .drift import Drift
from .handovers import HandOvers, alone, first_windows, nearest_allowed, unworn
from .judge import Player, Sampling
from .source import OPEN, Windows, WorldSource, window_batch

CHOSEN_AT = 0.85
"""The sigma below which a state shows which of several futures it comes to."""
MADE_SHARE = 0.8
"""How many open first windows are such that the student made; the others are the teacher's at every sigma."""
MADE_AT_ONCE = 100


@dataclass(frozen=True)
class FirstWindows:
    """M first windows that a student made of open captions.

    rows: (M,), the scene. noise: (M, 16, 4, 8, 8), what it was made from. latents: likewise, what it should have been.
    """

    rows: Tensor
    noise: Tensor
    latents: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def draw(self, windows: Windows, generator: torch.Generator) -> tuple[Windows, Tensor, Tensor]:
        """Return windows most open ones of which are of these now, with the places of those and their numbers here."""
        chance = torch.rand(len(windows.rows), generator=generator) < MADE_SHARE
        places = (windows.is_open & chance).nonzero()[:, 0]
        index = torch.randint(len(self), (len(places),), generator=generator)
        return replace(windows, rows=windows.rows.index_copy(0, places, self.rows[index])), places, index


@torch.no_grad()
def made_first_windows(
    weights: Mapping[str, Tensor],
    data: Dataset,
    scenes: world.Scenes,
    sampling: Sampling,
    folder: Path,
    *,
    count: int,
) -> FirstWindows:
    """Return first windows that a model makes once, a shard at a time; the folder keeps them.

    Combinations that are held out from training are left out, so there are somewhat fewer than ``count``.
    """
    among = alone(scenes)
    chosen = torch.randint(len(among), (count,), generator=torch.Generator().manual_seed(sampling.seed))
    rows, encoders = among[chosen], functools.cache(lambda: (Player(weights), Encoders.load_vae()))

    def make(part: slice) -> dict[str, Tensor]:
        (player, vae), some = encoders(), rows[part]
        batch = window_batch(data, first_windows(some, torch.full_like(some, OPEN)), image_states=True)
        seed = sampling.seed * 1_000_003 + part.start
        noise = torch.randn(batch.latents.shape, generator=torch.Generator().manual_seed(seed)).half()
        made = player.sample(replace(batch, noise=noise.float()), sampling)
        track = world.read_clip(decode_clips(vae, made), with_shape="none").centroid_px
        motion = nearest_allowed(track, data.allowed[some, OPEN])
        mended = replace(
            scenes[some], direction=motion // len(world.SPEEDS), speed=motion % len(world.SPEEDS)
        )
        kept = ~held_out(mended)
        clips = world.render_clip(mended[kept], 4 * (WINDOW_LATENTS - 1) + 1)
        return {"rows": some[kept], "noise": noise[kept], "latents": encode_clips(vae, clips).half()}

    return FirstWindows(**cached_shards(folder, count, make, batch=MADE_AT_ONCE))


class AnsweredSource:
    """Random windows as a long video hands them over, with their answers.

    Args:
        handed: take the place of most windows that know two latents.
        made: take the place of most open first windows.
    """

    def __init__(self, source: WorldSource, drift: Drift, handed: HandOvers, made: FirstWindows) -> None:
        self.source, self.drift, self.handed, self.made = source, drift, handed, made

    def __len__(self) -> int:
        return len(self.source)

    def batch(self, rows: Tensor, generator: torch.Generator) -> TrainingBatch:
        """Return a random window of every row, or another in its place."""
        windows, begun, number = self.made.draw(self.source.windows(rows, generator), generator)
        windows, places, index = self.handed.draw(windows, generator)
        shown = self.source.shown(windows)
        told = self.drift.put_on(self.source, unworn(windows, places), shown, generator)
        told = self.handed.told(told, places, index, image_states=self.source.image_states)
        answer = self.handed.truth(shown, places, index).latents
        answer = answer.index_copy(0, begun, self.made.latents[number].float())
        up_to = 1.0 - windows.is_open.float()
        noise = torch.randn(answer.shape, generator=generator)
        return replace(
            told,
            answer=answer,
            answered_up_to=up_to.index_fill(0, begun, CHOSEN_AT),
            noise=noise.index_copy(0, begun, self.made.noise[number].float()),
        )

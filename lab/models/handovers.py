"""Windows that start from latents the model itself has made, many windows into a long video.

A model that only sees true known latents in training has never seen its own: objects turn a little at every hand-over,
more where they cross the edge, and lose their shapes. So long videos are made with the current weights; at every
hand-over the right continuation is known, because the world can draw the object from where it is now, with its own
look, in the nearest direction that its caption allows (the idea of Ross, Gordon and Bagnell, "A Reduction of Imitation
Learning and Structured Prediction to No-Regret Online Learning", 2011).
"""

import functools
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import torch
from torch import Tensor

from ...model_patches.training.batch import TrainingBatch
from .. import world
from ..world.measure import centroid_offset_px, contrast, steps_of, true_mass_px
from .data import WINDOW_LATENTS, Dataset, Encoders, cached_shards, decode_clips, encode_clips, image_batch
from .player import Player, Sampling
from .source import NAMED, OPEN, Windows, window_batch, with_image_states

KNOWN, NEW = 2, WINDOW_LATENTS - 2
FRAMES_BEHIND, FRAMES_AHEAD = 8, 4 * NEW
PRESENT = (0.4, 1.7)
"""Range of the object's area over its true area; outside it the video is given up."""
PLAYED = Sampling(4, guidance_w=0.5)
"""Steps and guidance (w of the paper's eq. 7) with which the embedded model makes long videos."""
POOL_CLIPS, POOL_WINDOWS, POOL_ROUNDS = 40, 20, 3
"""Videos in a round, their length in windows, and how many rounds are kept."""
PLAYED_EVERY = 500
HANDED_SHARE = 0.9
"""Share of the windows with two known latents that are replaced by hand-overs."""
TURNED_DEG = (12.0, 60.0)
"""An object counts as turned by so many degrees: more than measuring errors, less than another direction."""


@dataclass(frozen=True)
class HandOvers:
    """M hand-overs of the scenes of a data set.

    rows, family, motion: (M,), the scene, the caption, and the right motion from here on. turned_deg: (M,), how far the
    object's motion is off that, 0 to 180. made: (M, 16, 2, 8, 8), the known latents as the model made them. latents:
    (M, 16, 4, 8, 8), the true ones and their continuation. image_states: (M, S, D), of the last known frame.
    """

    rows: Tensor
    family: Tensor
    motion: Tensor
    turned_deg: Tensor
    made: Tensor
    latents: Tensor
    image_states: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def joined(cls, parts: Sequence["HandOvers"]) -> "HandOvers":
        return cls(**{f.name: torch.cat([getattr(p, f.name) for p in parts]) for f in fields(cls)})

    def draw(
        self, windows: Windows, generator: torch.Generator, *, turned_share: float | None = None
    ) -> tuple[Windows, Tensor, Tensor]:
        """Replace some windows by hand-overs; return all windows, the places of the hand-overs, and their numbers.

        Args:
            turned_share: share of hand-overs whose object has turned; if None, all are drawn alike.
        """
        chance = torch.rand(len(windows.rows), generator=generator) < HANDED_SHARE
        places = ((windows.num_known == KNOWN) & chance).nonzero()[:, 0]
        index = self._drawn(len(places), generator, turned_share)
        handed = self.windows(index)
        drawn = Windows(
            **{
                f.name: getattr(windows, f.name).index_copy(0, places, getattr(handed, f.name))
                for f in fields(Windows)
            }
        )
        return drawn, places, index

    def _drawn(self, count: int, generator: torch.Generator, turned_share: float | None) -> Tensor:
        """Return numbers of hand-overs, (count,)."""
        turned = (self.turned_deg > TURNED_DEG[0]) & (self.turned_deg < TURNED_DEG[1])
        if turned_share is None or turned.all() or not turned.any() or count == 0:
            return torch.randint(len(self), (count,), generator=generator)
        number = turned.sum()
        shares = torch.where(turned, turned_share / number, (1 - turned_share) / (len(self) - number))
        return torch.multinomial(shares, count, replacement=True, generator=generator)

    def windows(self, index: Tensor) -> Windows:
        """Return the windows of these hand-overs: two known latents, in mid-motion."""
        ones = torch.ones_like(index)
        return Windows(self.rows[index], self.family[index], ones, KNOWN * ones)

    def truth(self, batch: TrainingBatch, places: Tensor, index: Tensor) -> TrainingBatch:
        """Return a batch with the true clips of hand-overs ``index`` at ``places``."""
        return replace(batch, latents=batch.latents.index_copy(0, places, self.latents[index].float()))

    def with_made(
        self, batch: TrainingBatch, places: Tensor, index: Tensor, *, image_states: bool
    ) -> TrainingBatch:
        """Return a batch with the made latents as known ones at ``places``, and the VLM's states of them, if used."""
        batch = self.truth(batch, places, index)
        batch.latents[places, :, :KNOWN] = self.made[index].float()
        if not image_states:
            return batch
        return with_image_states(batch, places, self.image_states[index])


class LongVideos:
    """A batch of long videos that a model makes in the shapes world."""

    def __init__(self, data: Dataset, scenes: world.Scenes, encoders: Encoders) -> None:
        self.data, self.scenes, self.encoders = data, scenes, encoders

    @torch.no_grad()
    def play(
        self,
        weights: Mapping[str, Tensor],
        rows: Tensor,
        sampling: Sampling,
        *,
        windows: int,
        seed: int,
        open_share: float = 0.5,
    ) -> Iterator[HandOvers]:
        """Yield the hand-overs of every window after the first, of the videos that still show their object.

        Args:
            weights: the model's, in the host's names.
            rows: the scenes, without second objects.
            sampling: how every window is sampled; its seed is not used.
            open_share: share of videos with open captions; a named one says the direction again in every window.
        """
        player, generator = Player(weights), torch.Generator().manual_seed(seed)
        is_open = torch.rand(len(rows), generator=generator) < open_share
        family = torch.where(is_open, OPEN, NAMED)
        batch = window_batch(self.data, first_windows(rows, family), image_states=True)
        made = player.sample(batch, replace(sampling, seed=seed))
        for number in range(1, windows + 1):
            frames = decode_clips(self.encoders.vae, made)
            kept, motion, turned_deg, way = self._ways(frames, rows, family)
            rows, family, made, frames = rows[kept], family[kept], made[kept], frames[kept]
            if len(rows) == 0:
                return
            states = image_batch(self.encoders.vlm, self.encoders.llm_tokenizer, frames[:, -1].clamp(0, 1))
            known = made[:, :, -KNOWN:]
            truth = encode_clips(self.encoders.vae, world.render_along(self.scenes[rows], way))
            given = HandOvers(
                rows,
                family,
                motion,
                turned_deg,
                made=known.half(),
                latents=truth[:, :, -WINDOW_LATENTS:].half(),
                image_states=states.half(),
            )
            yield given
            every = torch.arange(len(rows))
            batch = window_batch(self.data, given.windows(every), image_states=True)
            batch = given.with_made(batch, every, every, image_states=True)
            new = player.sample(batch, replace(sampling, seed=seed + number))[:, :, KNOWN:]
            made = torch.cat([made, new], 2)[:, :, -WINDOW_LATENTS:]

    def _ways(self, frames: Tensor, rows: Tensor, family: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return which clips still show their object, (B,) bool; for those also motion, turn and true centres."""
        scenes = self.scenes[rows]
        reading = world.read_clip(frames[:, -FRAMES_BEHIND - 1 :], with_shape="none")
        share = reading.mass_px[:, -1] / true_mass_px(scenes)
        kept = (share > PRESENT[0]) & (share < PRESENT[1])
        now = reading.centroid_px[:, -1] - centroid_offset_px(scenes)
        motion = nearest_allowed(reading.centroid_px, self.data.allowed[rows, family])
        pace = steps_of(reading.centroid_px).mean(1)
        turned = torch.cosine_similarity(pace, world.velocities_px()[motion]).clamp(-1, 1).acos()
        times = torch.arange(-FRAMES_BEHIND, FRAMES_AHEAD + 1)
        way = now[:, None] + world.velocities_px()[motion][:, None] * times[None, :, None]
        return kept, motion[kept], turned.rad2deg()[kept], way[kept]


def nearest_allowed(track: Tensor, allowed: Tensor) -> Tensor:
    """Return the allowed motion (B,) whose velocity is nearest to a track's.

    Args:
        track: (B, T, 2) in pixels, on the torus.
        allowed: (B, 16) bool over ``Scenes.motion``.
    """
    pace = steps_of(track).mean(1)
    apart = (pace[:, None] - world.velocities_px()).square().sum(-1)
    return apart.masked_fill(~allowed, torch.inf).argmin(1)


class HandOverPool:
    """The latest hand-overs of a model in training; new long videos are made now and then.

    A resumed run first makes them again.

    Args:
        data, scenes: the training set.
        number: of this process; each makes videos of its own.
    """

    def __init__(self, data: Dataset, scenes: world.Scenes, *, number: int) -> None:
        self.videos = LongVideos(data, scenes, Encoders.trained())
        self.number, self.rounds = number, deque[HandOvers](maxlen=POOL_ROUNDS)
        self.given: HandOvers | None = None

    def refresh(self, weights: Mapping[str, Tensor], step: int) -> None:
        """Make long videos with these weights, in the host's names, and keep their hand-overs."""
        seed = 1000 * step + self.number
        rows = hardest_alone(self.videos.scenes, POOL_CLIPS, torch.Generator().manual_seed(seed))
        played = self.videos.play(weights, rows, PLAYED, windows=POOL_WINDOWS, seed=seed)
        self.rounds.append(HandOvers.joined(tuple(played)))
        self.given = HandOvers.joined(self.rounds)
        print(
            f"{len(self.given)} hand-overs of long videos, made with the weights of step {step}", flush=True
        )


def hardest_alone(scenes: world.Scenes, count: int, generator: torch.Generator) -> Tensor:
    """Draw scenes (count,) without second objects, most of them small or faint: those are lost first."""
    rows = (scenes.second_colour < 0).nonzero()[:, 0]
    shares = 1 / (true_mass_px(scenes[rows]) * contrast(scenes[rows]))
    return rows[torch.multinomial(shares, count, generator=generator)]


def first_windows(rows: Tensor, family: Tensor) -> Windows:
    """Return the first windows of these rows, with captions of these families, which know one picture."""
    zeros = torch.zeros_like(rows)
    return Windows(rows, family, zeros, zeros + 1)


def played_hand_overs(
    weights: Mapping[str, Tensor],
    data: Dataset,
    scenes: world.Scenes,
    sampling: Sampling,
    folder: Path,
    *,
    videos: int,
    windows: int,
    open_share: float,
) -> HandOvers:
    """Return the hand-overs of long videos that a model makes, a shard at a time; the folder caches them."""
    rows = hardest_alone(scenes, videos, torch.Generator().manual_seed(sampling.seed))
    long_videos = functools.cache(lambda: LongVideos(data, scenes, Encoders.trained()))

    def play(part: slice) -> dict[str, Tensor]:
        made = long_videos().play(
            weights,
            rows[part],
            sampling,
            windows=windows,
            seed=sampling.seed + 1000 * part.start,
            open_share=open_share,
        )
        return asdict(HandOvers.joined(tuple(made)))

    return HandOvers(**cached_shards(folder, videos, play, batch=POOL_CLIPS))


def as_first_windows(windows: Windows, places: Tensor) -> Windows:
    """Return windows with those at ``places`` marked as first ones, so that no errors are added to hand-overs."""
    return replace(windows, start=windows.start.index_fill(0, places, 0))

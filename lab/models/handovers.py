"""Windows that start from what the model itself has handed over, many windows into a long video.

A model that only sees true known latents in training does not know how its own look: it turns a little at every
hand-over, more where an object crosses the edge, and loses shapes. So long videos are played with the weights as they
are; at every hand-over the answer is known, since the world can draw the object on from where it is now, in its own
looks, on the nearest way that its caption allows (the idea of Ross, Gordon and Bagnell, "A Reduction of Imitation
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
from .source import NAMED, OPEN, Windows, window_batch, with_seen

KNOWN, NEW = 2, WINDOW_LATENTS - 2
FRAMES_BEHIND, FRAMES_AHEAD = 8, 4 * NEW
PRESENT = (0.4, 1.7)
"""Area over the true area within which an object is followed; outside of it a video is given up."""
PLAYED = Sampling(4, guidance_w=0.5)
"""Steps and guidance (w of the paper's eq. 7) as long videos are made with the embedded model alone."""
POOL_CLIPS, POOL_WINDOWS, POOL_ROUNDS = 40, 20, 3
"""Videos of a round, their length in windows, and how many rounds are kept."""
PLAYED_EVERY = 500
HANDED_SHARE = 0.9
"""How many windows of two known latents are hand-overs."""
TURNED_DEG = (12.0, 60.0)
"""What counts as turned: more than true objects seem to in five frames, and less than another way would be."""


@dataclass(frozen=True)
class HandOvers:
    """M hand-overs of the scenes of a data set.

    rows, family, motion: (M,), the scene, the caption, and the motion from here on. turned_deg: (M,), how far off that
    the object has come, 0 to 180. made: (M, 16, 2, 8, 8), the known latents as the model made them. latents:
    (M, 16, 4, 8, 8), as they should be and go on. image_states: (M, S, D), what the VLM sees of the last known frame.
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
        """Return windows some of which are hand-overs now, with the places of those and their numbers here.

        Args:
            turned_share: how often one is drawn whose object has turned; all alike if None.
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
        """Return a batch whose clips at ``places`` are as those of hand-overs ``index`` should be."""
        return replace(batch, latents=batch.latents.index_copy(0, places, self.latents[index].float()))

    def told(
        self, batch: TrainingBatch, places: Tensor, index: Tensor, *, image_states: bool
    ) -> TrainingBatch:
        """Return a batch that knows at ``places`` what was made, and whose VLM, if it is asked, has seen it."""
        batch = self.truth(batch, places, index)
        batch.latents[places, :, :KNOWN] = self.made[index].float()
        if not image_states:
            return batch
        return with_seen(batch, places, self.image_states[index])


class LongVideos:
    """A batch of long videos that a model plays in the shapes world."""

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
            open_share: how many videos have open captions; a named one says the way again at every window.
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
            shown = window_batch(self.data, given.windows(every), image_states=True)
            told = given.told(shown, every, every, image_states=True)
            new = player.sample(told, replace(sampling, seed=seed + number))[:, :, KNOWN:]
            made = torch.cat([made, new], 2)[:, :, -WINDOW_LATENTS:]

    def _ways(self, frames: Tensor, rows: Tensor, family: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return which clips still show their object, (B,) bool; of those motion, turn and the way through now."""
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
    """The latest hand-overs of a model in training: long videos are played anew now and then.

    A run that goes on plays them again first.

    Args:
        data, scenes: the training set.
        number: of this process; each plays videos of its own.
    """

    def __init__(self, data: Dataset, scenes: world.Scenes, *, number: int) -> None:
        self.videos = LongVideos(data, scenes, Encoders())
        self.number, self.rounds = number, deque[HandOvers](maxlen=POOL_ROUNDS)
        self.given: HandOvers | None = None

    def refresh(self, weights: Mapping[str, Tensor], step: int) -> None:
        """Play long videos with these weights, in the host's names."""
        seed = 1000 * step + self.number
        rows = hardest_alone(self.videos.scenes, POOL_CLIPS, torch.Generator().manual_seed(seed))
        played = self.videos.play(weights, rows, PLAYED, windows=POOL_WINDOWS, seed=seed)
        self.rounds.append(HandOvers.joined(tuple(played)))
        self.given = HandOvers.joined(self.rounds)
        print(
            f"{len(self.given)} hand-overs of long videos, played with the weights of step {step}", flush=True
        )


def hardest_alone(scenes: world.Scenes, count: int, generator: torch.Generator) -> Tensor:
    """Draw scenes (count,), most of them small or faint, which are lost first; none has a second object to follow."""
    rows = (scenes.second_colour < 0).nonzero()[:, 0]
    shares = 1 / (true_mass_px(scenes[rows]) * contrast(scenes[rows]))
    return rows[torch.multinomial(shares, count, generator=generator)]


def first_windows(rows: Tensor, family: Tensor) -> Windows:
    """Return the windows that begin the clips of these rows, with captions of these families, from one picture."""
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
    """Return the hand-overs of long videos that a model plays once, a shard at a time; the folder keeps them."""
    rows = hardest_alone(scenes, videos, torch.Generator().manual_seed(sampling.seed))
    long_videos = functools.cache(lambda: LongVideos(data, scenes, Encoders()))

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


def unworn(windows: Windows, places: Tensor) -> Windows:
    """Return windows of which those at ``places`` have been through a long video: to any wear they are first ones."""
    return replace(windows, start=windows.start.index_fill(0, places, 0))

"""Stage ``futures``: every future that a scene's open caption allows, and their mean given what noise has left of them.

From the first frame and an open caption two to four clips can follow. Flow matching learns their mean at each noisy
clip from one of them at random; here the mean itself is known, so it can be the target: the same optimum, with none of
the noise of the draw (Xu, Tong and Jaakkola, "Stable Target Field for Reduced Variance Score Estimation", 2023).
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .. import world
from ..world.scenes import DIRECTIONS, SPEEDS, held_out
from .data import WINDOW_LATENTS, Dataset, Encoders, load
from .run import save_atomically, stage_dir
from .source import OPEN, Windows

MOST = 4
NUM_MOTIONS = len(DIRECTIONS) * len(SPEEDS)
SHARD = 100


@dataclass(frozen=True)
class Futures:
    """What N captions allow.

    latents: (N, 4, 16, 4, 8, 8), clips. allowed: (N, 4) bool, False where there are fewer. motion: (N, 4) as
    ``Scenes.motion``.
    """

    latents: Tensor
    allowed: Tensor
    motion: Tensor

    def likelihood(self, rows: Tensor, noisy: Tensor, sigma: Tensor) -> Tensor:
        """Return how likely each future of scenes ``rows`` (B,) is behind the noise, (B, 4), one in sum.

        Args:
            noisy: (B, 16, 4, 8, 8) = (1 - sigma) clean + sigma noise.
            sigma: (B,) in [0, 1].
        """
        clips = self.latents[rows].float()
        level = sigma[:, None, None, None, None, None]
        apart = noisy[:, None] - (1 - level) * clips
        score = -apart.square().flatten(2).sum(-1) / (2 * sigma[:, None].square().clamp_min(1e-6))
        return score.masked_fill(~self.allowed[rows], -torch.inf).softmax(1)

    def mean(self, rows: Tensor, likelihood: Tensor) -> Tensor:
        """Return E[clean latents | noisy latents, first frame, open caption], (B, 16, 4, 8, 8)."""
        return (likelihood[..., None, None, None, None] * self.latents[rows].float()).sum(1)

    def motions(self, rows: Tensor, likelihood: Tensor) -> Tensor:
        """Return how likely each of the world's motions is, (B, 16)."""
        return torch.zeros(len(rows), NUM_MOTIONS).scatter_add(1, self.motion[rows], likelihood)

    def told(self, windows: Windows) -> Tensor:
        """Tell which windows (B,) have these futures: an open caption and the first frame alone."""
        return (windows.family == OPEN) & (windows.start == 0) & (windows.num_known == 1)


def motions_of(allowed: Tensor) -> Tensor:
    """Return the first allowed motions of (N, 16) bool, (N, 4); where there are fewer, others fill the places."""
    return allowed.int().argsort(dim=1, descending=True, stable=True)[:, :MOST]


def allowed_scenes(scenes: world.Scenes, allowed: Tensor) -> tuple[world.Scenes, Tensor]:
    """Return each scene with each motion it may have, (N * 4), and which of them count, (N, 4).

    Combinations held out from training do not count, nor do the places beyond the number of allowed motions.

    Args:
        allowed: (N, 16) bool over ``Scenes.motion``.
    """
    motion = motions_of(allowed)
    counts = allowed.gather(1, motion)
    rows = torch.arange(len(scenes)).repeat_interleave(MOST)
    direction = motion.flatten() // len(SPEEDS)
    candidates = replace(scenes[rows], direction=direction)
    return candidates, counts & ~held_out(candidates).view(-1, MOST)


@torch.no_grad()
def load_futures(data: Dataset, scenes: world.Scenes) -> Futures:
    """Return the training scenes' allowed clips, computing what is missing, a shard at a time."""
    folder, vae, shards = stage_dir("data") / "train-1-futures", None, []
    folder.mkdir(exist_ok=True)
    for index in range(0, len(scenes), SHARD):
        path = folder / f"{index:06d}.pt"
        if not path.exists():
            vae = vae or Encoders.load_vae()
            shard = slice(index, index + SHARD)
            candidates, counts = allowed_scenes(scenes[shard], data.allowed[shard, OPEN])
            latents = data.latents[shard, :, :WINDOW_LATENTS].repeat_interleave(MOST, 0)
            chosen = counts.flatten().nonzero()[:, 0]
            clips = world.render_clip(candidates[chosen], 4 * (WINDOW_LATENTS - 1) + 1)
            latents[chosen] = torch.cat([vae.encode(part) for part in clips.split(2)]).half()
            save_atomically({"latents": latents.unflatten(0, (-1, MOST)), "allowed": counts}, path)
            print(f"futures: {min(index + SHARD, len(scenes))} of {len(scenes)} scenes", flush=True)
        shards.append(torch.load(path, weights_only=True))
    joined = {name: torch.cat([s[name] for s in shards]) for name in shards[0]}
    return Futures(**joined, motion=motions_of(data.allowed[:, OPEN]))


if __name__ == "__main__":
    load_futures(*load("train", 8000, seed=1, available=True))

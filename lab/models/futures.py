"""Every future that a scene's open caption allows, and their mean given a noisy clip.

From the first frame and an open caption two to four clips can follow. Flow matching learns their mean at each noisy
clip from one of them at random; here the mean itself is known, so it can be the target: the same optimum, without the
noise of the random choice (Xu, Tong and Jaakkola, "Stable Target Field for Reduced Variance Score Estimation", 2023).
"""

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from ...model_patches.training.losses import per_clip
from .. import world
from ..world.scenes import NUM_MOTIONS, held_out
from .data import WINDOW_FRAMES, WINDOW_LATENTS, Dataset, Encoders, cached_shards, encode_clips
from .run import stage_dir
from .source import OPEN

MOST = 4
LEAST_APART = 1e-3
"""Share of the largest squared difference below which a difference is rounding."""


@dataclass(frozen=True)
class Futures:
    """The futures that N captions allow.

    latents: (N, 4, 16, 4, 8, 8), clips. allowed: (N, 4) bool, False where there are fewer. motion: (N, 4) as
    ``Scenes.motion``.
    """

    latents: Tensor
    allowed: Tensor
    motion: Tensor

    def posterior(self, rows: Tensor, noisy: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and motion of the futures of scenes ``rows`` (B,), given noisy clip, picture and open caption.

        Args:
            noisy: (B, 16, 4, 8, 8) = (1 - sigma) clean + sigma noise.
            sigma: (B,) in [0, 1].

        Returns:
            The mean of the clean latents (B, 16, 4, 8, 8), and how likely each of the world's motions is (B, 16).
        """
        clips = self.latents[rows].float()
        apart = noisy[:, None] - (1 - per_clip(sigma, clips)) * clips
        score = -apart.square().flatten(2).sum(-1) / (2 * sigma[:, None].square().clamp_min(1e-6))
        likelihood = score.masked_fill(~self.allowed[rows], -torch.inf).softmax(1)
        motions = torch.zeros(len(rows), NUM_MOTIONS).scatter_add(1, self.motion[rows], likelihood)
        return torch.einsum("bf,bf...->b...", likelihood, clips), motions

    def choices(self, rows: Tensor) -> Tensor:
        """Return orthonormal directions in which the futures of scenes ``rows`` (B,) differ, (B, 4, 16, 4, 8, 8).

        F futures have F - 1 of them; the others are zeros.
        """
        clips, allowed = self.latents[rows].float(), self.allowed[rows].float()
        shares = allowed / allowed.sum(1, keepdim=True)
        mean = torch.einsum("bf,bf...->b...", shares, clips)
        apart = (clips - mean[:, None]).flatten(2) * allowed[..., None]
        sizes, mixes = torch.linalg.eigh(apart @ apart.mT)
        real = sizes > LEAST_APART * sizes[:, -1:].clamp_min(1e-6)
        ways = (mixes.mT @ apart) / sizes.clamp_min(1e-6).sqrt()[..., None]
        return (ways * real[..., None]).view_as(clips)


def motions_of(allowed: Tensor) -> Tensor:
    """Return the first allowed motions of (N, 16) bool, (N, 4); if there are fewer, others fill the rest."""
    return allowed.int().argsort(dim=1, descending=True, stable=True)[:, :MOST]


def allowed_scenes(scenes: world.Scenes, allowed: Tensor) -> tuple[world.Scenes, Tensor]:
    """Return each scene with each of its allowed motions, (N * 4), and which of them count, (N, 4).

    Combinations held out from training do not count, nor does what fills the rest.

    Args:
        allowed: (N, 16) bool over ``Scenes.motion``.
    """
    motion = motions_of(allowed)
    counts = allowed.gather(1, motion)
    rows = torch.arange(len(scenes)).repeat_interleave(MOST)
    candidates = scenes[rows].moving(motion.flatten())
    return candidates, counts & ~held_out(candidates).view(-1, MOST)


@torch.no_grad()
def load_futures(data: Dataset, scenes: world.Scenes) -> Futures:
    """Return the allowed clips of the training scenes; missing shards are computed."""
    vae = functools.cache(Encoders.load_vae)

    def encode(rows: slice) -> dict[str, Tensor]:
        candidates, counts = allowed_scenes(scenes[rows], data.allowed[rows, OPEN])
        latents = data.latents[rows, :, :WINDOW_LATENTS].repeat_interleave(MOST, 0)
        chosen = counts.flatten().nonzero()[:, 0]
        clips = world.render_clip(candidates[chosen], WINDOW_FRAMES)
        latents[chosen] = encode_clips(vae(), clips).half()
        return {"latents": latents.unflatten(0, (-1, MOST)), "allowed": counts}

    joined = cached_shards(stage_dir("data/train-1-futures"), len(scenes), encode)
    return Futures(**joined, motion=motions_of(data.allowed[:, OPEN]))

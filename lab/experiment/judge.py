"""Sample a DiT on held-out scenes and judge the decoded clips: one row of the experiment's tables."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ...model_patches.judge.sets import frechet_distance
from .. import world
from ..models.data import WINDOW_FRAMES, decode_clips, encode_clips
from ..models.player import Player, Sampling
from ..models.source import HeldOutSource
from ..models.taehv import Taehv
from ..world.clip_metrics import bootstrap_interval, coverage_entropy
from ..world.quality import judge_clips
from .features import FeatureNet

CHUNK = 32
LEAST_CLEAN = 4
"""With fewer clean samples the entropy of a prompt says nothing."""
FRECHET = "tiny_frechet"
Decode = Callable[[Tensor], Tensor]


@torch.no_grad()
def judge(
    player: Player,
    source: HeldOutSource,
    scenes: world.Scenes,
    decode: Decode,
    net: FeatureNet | None,
    sampling: Sampling,
) -> dict[str, Tensor]:
    """Sample every scene once and return each measure of ``judge_clips`` as (N,), and ``features`` (N, F)."""
    rows, parts = torch.arange(len(source)), []
    for index in rows.split(CHUNK):
        batch = source.batch(index)
        frames = decode(player.sample(batch, sampling, offset=int(index[0])))
        parts.append(_judge_frames(frames, scenes[index], source, index, net))
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _judge_frames(
    frames: Tensor, scenes: world.Scenes, source: HeldOutSource, rows: Tensor, net: FeatureNet | None
) -> dict[str, Tensor]:
    judged = judge_clips(frames, scenes, source.data.allowed[rows, source.family])
    return judged if net is None else judged | {"features": net.features(frames)}


@torch.no_grad()
def reference_features(source: HeldOutSource, decode: Decode, net: FeatureNet) -> Tensor:
    """Return (N, F) features of the true clips after the autoencoder, so that its error does not count."""
    rows = torch.arange(len(source)).split(CHUNK)
    return torch.cat([net.features(decode(source.batch(index).latents)) for index in rows])


@torch.no_grad()
def other_future_features(
    source: HeldOutSource,
    scenes: world.Scenes,
    vae: Taehv,
    net: FeatureNet,
    generator: torch.Generator,
) -> Tensor:
    """Return (N, F) features of true clips with another motion each, drawn from those that the caption allows.

    A perfect model makes such clips: their tiny-Frechet is that of chance alone. They go through ``vae`` like those of
    ``reference_features``.
    """
    features = []
    for rows in torch.arange(len(source)).split(CHUNK):
        allowed = source.data.allowed[rows, source.family]
        clips = render_futures(scenes[rows], torch.multinomial(allowed.float(), 1, generator=generator)[:, 0])
        features.append(net.features(decode_clips(vae, encode_clips(vae, clips))))
    return torch.cat(features)


def render_futures(scenes: world.Scenes, motion: Tensor) -> Tensor:
    """Return the clips (B, T, 3, H, W) of a window's length of these scenes, with motions as ``Scenes.motion``."""
    return world.render_clip(scenes.moving(motion), WINDOW_FRAMES)


@torch.no_grad()
def measure_coverage(
    player: Player,
    source: HeldOutSource,
    scenes: world.Scenes,
    decode: Decode,
    sampling: Sampling,
    *,
    prompts: int,
    samples: int = CHUNK // 2,
) -> float:
    """Return the mean entropy over allowed futures (1 is uniform) of many samples of one prompt and first frame.

    Only clean samples count, since a ghost's motion is read at random; prompts with fewer than ``LEAST_CLEAN`` of
    them are left out, and 0 is returned where none is left.
    """
    entropies = []
    for row in range(min(prompts, len(source))):
        rows = torch.full((samples,), row)
        latents = player.sample(source.batch(rows), sampling, offset=500_000 + row)
        allowed = source.data.allowed[rows, source.family]
        judged = _judge_frames(decode(latents), scenes[rows], source, rows, None)
        motion = judged["motion"][judged["clean_rate"] > 0].long()
        if len(motion) >= LEAST_CLEAN:
            entropies.append(coverage_entropy(motion, allowed[0]))
    return sum(entropies) / len(entropies) if entropies else 0.0


def summarise(judged: Mapping[str, Tensor], reference: Tensor | None, *, seed: int = 0) -> dict[str, float]:
    """Return each measure's mean with the ends of its 95 % interval, and tiny-Frechet."""
    generator = torch.Generator().manual_seed(seed)
    row: dict[str, float] = {"clips": float(len(judged["motion"]))}
    for name, values in judged.items():
        if name not in ("features", "motion"):
            row[name] = values.double().mean().item()
            row[f"{name}_low"], row[f"{name}_high"] = bootstrap_interval(values, generator)
    if reference is not None:
        row[FRECHET] = frechet_distance(judged["features"], reference)
    return row

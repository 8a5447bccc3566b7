"""Decode the continuation of a clip so that no frame at the seam is doubled, dropped or dimmed.

A causal video decoder remembers what came before. New latent frames are therefore decoded behind enough of the
old ones, and the old ones' frames are dropped. How much is enough depends on the VAE:

- TAEHV: every MemBlock sees one step back at its own frame rate. Three run at the latent rate, three more at the
  latent rate and three at twice it: 7.5 latent frames, so with 8 the frames are the same bit for bit.
- The HunyuanVideo VAE, as the host runs it, normalises and attends over the whole clip in its middle block, so no
  amount is exact. Behind the middle block it works in pairs of latent frames that count from the first one:
  starting at an even latent frame keeps the pairs together.
"""

import math

import torch
from comfy.taesd.taehv import TAEHV, MemBlock, TGrow
from torch import Tensor

from ..buckets import FRAMES_PER_LATENT
from .vae import decode_frames

HUNYUAN_CONTEXT = 8
HUNYUAN_PAIR = 2


def context_latent_frames(vae) -> int:
    """Return how many earlier latent frames the decoder needs before the first new one."""
    network = vae.first_stage_model
    if not isinstance(network, TAEHV):
        return HUNYUAN_CONTEXT
    rate, reach = 1, 0.0
    for layer in network.decoder:
        if isinstance(layer, TGrow):
            rate *= layer.stride
        elif isinstance(layer, MemBlock):
            reach += 1 / rate
    return math.ceil(reach)


def kept_latent_frames(vae) -> int:
    """Return how many latent frames to keep of what is finished, so that the next ones can be decoded."""
    return context_latent_frames(vae) + (0 if isinstance(vae.first_stage_model, TAEHV) else HUNYUAN_PAIR - 1)


def context_start(vae, *, first_kept: int, num_before: int) -> int:
    """Return the latent frame of the stream at which decoding starts.

    Args:
        first_kept: the oldest latent frame that is still there, counted from the start of the stream.
        num_before: latent frames of the stream before the first new one.
    """
    start = max(first_kept, num_before - context_latent_frames(vae))
    if isinstance(vae.first_stage_model, TAEHV):
        return start
    down = start - start % HUNYUAN_PAIR
    return down if down >= first_kept else start


def decode_continuation(vae, before: Tensor, new: Tensor, *, num_before: int) -> Tensor:
    """Decode new latent frames that follow others.

    Args:
        before: (1, 16, n, h, w), the last latent frames before the seam, n >= 1.
        new: (1, 16, m, h, w).
        num_before: all latent frames before the seam, including those no longer kept.

    Returns:
        (4 * m, 8h, 8w, 3) in [0, 1], the frames of ``new`` alone.
    """
    first_kept = num_before - before.shape[2]
    start = context_start(vae, first_kept=first_kept, num_before=num_before)
    stream = before[:, :, start - first_kept :].to(new)
    frames = decode_frames(vae, torch.cat([stream, new], dim=2))
    return frames[-FRAMES_PER_LATENT * new.shape[2] :]

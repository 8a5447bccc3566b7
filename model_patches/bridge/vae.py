"""Frames to latents and back through the host's VAE, with frames grouped as the DiT expects them.

A causal video decoder remembers what came before. To continue a clip, new latent frames are decoded after enough of
the old ones, and the old ones' frames are dropped, so that no frame at the seam is doubled, dropped or dimmed. How
many are enough depends on the VAE:

- TAEHV: every MemBlock sees one step back at its own frame rate. Three run at the latent rate, three more at the
  latent rate and three at twice it: 7.5 latent frames, so with 8 the frames are the same bit for bit.
- The HunyuanVideo VAE, as the host runs it, normalizes and attends over the whole clip in its middle block, so no
  number is exact. After the middle block it works in pairs of latent frames that count from the first one:
  starting at an even latent frame keeps the pairs together.
"""

import math

import torch
from comfy.sd import VAE
from comfy.taesd.taehv import TAEHV, MemBlock, TGrow
from torch import Tensor

from ..sizes import FRAMES_PER_LATENT, LATENT_CHANNELS, SPATIAL_COMPRESSION, check_frame_count

HUNYUAN_CONTEXT = 8
HUNYUAN_PAIR = 2


def check_vae(vae: VAE) -> None:
    """Refuse a VAE that is not of the HunyuanVideo kind.

    Raises:
        ValueError: says what its latents look like.
    """
    channels, dims, ratio = vae.latent_channels, vae.latent_dim, vae.spacial_compression_encode()
    if (channels, dims, ratio) != (LATENT_CHANNELS, 3, SPATIAL_COMPRESSION):
        raise ValueError(
            f"This VAE makes latents of {channels} channels over {dims} dimensions at 1/{ratio} size; HunyuanVideo's "
            "makes 16 over 3 at 1/8. Load hunyuan_video_vae_bf16, taehv or the embedded "
            "magic141_shapes_vae."
        )


def is_taehv(vae: VAE) -> bool:
    """Return whether the VAE is a TAEHV, the one kind besides HunyuanVideo's own that this pack knows.

    Its encoder puts frames 0-3 into latent 0, where its decoder puts frame 0 alone; its decoder continues a stream
    bit for bit.
    """
    return isinstance(vae.first_stage_model, TAEHV)


def encode_frames(vae: VAE, frames: Tensor) -> Tensor:
    """Encode frames so that latent 0 is frame 0 alone and every further latent the next four frames.

    The HunyuanVideo VAE groups them so by itself. TAEHV's encoder groups 0-3, 4-7 ..., so frame 0 is repeated three
    times in front; for a single picture that equals the encoder's own padding at the end.

    If memory runs out, the host repeats the encoding in tiles.

    Args:
        frames: (N, H, W, 3) in [0, 1], N = 4n + 1, sides multiples of 8.
    Returns:
        (1, 16, n + 1, H / 8, W / 8), unscaled, as the host's LATENT holds it.
    Raises:
        ValueError: N is not 4n + 1.
    """
    check_frame_count(len(frames), "the number of frames to encode")
    if is_taehv(vae):
        frames = torch.cat([frames[:1].expand(FRAMES_PER_LATENT - 1, -1, -1, -1), frames])
    return vae.encode(frames)


def decode_frames(vae: VAE, latent: Tensor) -> Tensor:
    """Decode a latent clip; if memory runs out, the host repeats it in tiles.

    Args:
        latent: (1, 16, T, h, w), unscaled.
    Returns:
        (4 * (T - 1) + 1, 8h, 8w, 3) in [0, 1].
    """
    return vae.decode(latent).flatten(0, -4).clamp(0.0, 1.0)


def context_latent_frames(vae: VAE) -> int:
    """Return how many earlier latent frames the decoder needs before the first new one."""
    model = vae.first_stage_model
    if not isinstance(model, TAEHV):
        return HUNYUAN_CONTEXT
    rate, reach = 1, 0.0
    for layer in model.decoder:
        if isinstance(layer, TGrow):
            rate *= layer.stride
        elif isinstance(layer, MemBlock):
            reach += 1 / rate
    return math.ceil(reach)


def kept_latent_frames(vae: VAE) -> int:
    """Return how many latent frames to keep of what is finished, so that the next ones can be decoded."""
    return context_latent_frames(vae) + (0 if is_taehv(vae) else HUNYUAN_PAIR - 1)


def context_start(vae: VAE, *, first_kept: int, num_before: int) -> int:
    """Return the latent frame of the stream at which decoding starts.

    Args:
        first_kept: the oldest latent frame that is still there, counted from the start of the stream.
        num_before: latent frames of the stream before the first new one.
    """
    start = max(first_kept, num_before - context_latent_frames(vae))
    if is_taehv(vae):
        return start
    down = start - start % HUNYUAN_PAIR
    return down if down >= first_kept else start


def decode_continuation(vae: VAE, before: Tensor, new: Tensor, *, num_before: int) -> Tensor:
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

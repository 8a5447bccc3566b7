"""Frames to latents and back through the host's VAE, with frames grouped as the DiT expects them."""

import torch
from comfy.taesd.taehv import TAEHV
from torch import Tensor

from ..buckets import FRAMES_PER_LATENT, check_frame_count

LATENT_CHANNELS = 16
SPATIAL_COMPRESSION = 8


def check_vae(vae) -> None:
    """Refuse a VAE that is not of the HunyuanVideo kind.

    Raises:
        ValueError: saying what its latents look like.
    """
    channels, dims, ratio = vae.latent_channels, vae.latent_dim, vae.spacial_compression_encode()
    if (channels, dims, ratio) != (LATENT_CHANNELS, 3, SPATIAL_COMPRESSION):
        raise ValueError(
            f"This VAE makes latents of {channels} channels over {dims} dimensions at 1/{ratio} size; HunyuanVideo's "
            "makes 16 over 3 at 1/8. Load hunyuan_video_vae_bf16, taehv or the embedded "
            "magic141_shapes_vae."
        )


def groups_from_frame_zero(vae) -> bool:
    """Say whether the VAE's encoder puts frames 0-3 into latent 0 (TAEHV), where its decoder puts frame 0 alone."""
    return isinstance(vae.first_stage_model, TAEHV)


def encode_frames(vae, frames: Tensor) -> Tensor:
    """Encode frames so that latent 0 is frame 0 alone and every further latent the next four frames.

    The real HunyuanVideo VAE groups them so by itself. TAEHV's encoder takes 0-3, 4-7... : frame 0 is put three
    times in front, which for a single picture is the same as its own padding at the end.

    Out of memory the host repeats the encoding in tiles.

    Args:
        frames: (N, H, W, 3) in [0, 1], N = 4n + 1, sides multiples of 8.
    Returns:
        (1, 16, n + 1, H / 8, W / 8), unscaled, as the host's LATENT holds it.
    Raises:
        ValueError: N is not 4n + 1.
    """
    check_frame_count(len(frames), "the number of frames to encode")
    if groups_from_frame_zero(vae):
        frames = torch.cat([frames[:1].expand(FRAMES_PER_LATENT - 1, -1, -1, -1), frames])
    return vae.encode(frames)


def decode_frames(vae, latent: Tensor) -> Tensor:
    """Decode a latent clip; out of memory the host repeats it in tiles.

    Args:
        latent: (1, 16, T, h, w), unscaled.
    Returns:
        (4 * (T - 1) + 1, 8h, 8w, 3) in [0, 1].
    """
    return vae.decode(latent).flatten(0, -4).clamp(0.0, 1.0)

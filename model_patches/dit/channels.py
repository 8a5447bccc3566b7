"""The input channels of the image-to-video DiT: noisy latent (C), known frames (C), mask (1).

ComfyUI writes the two conditions its own way, and so do we: ``concat_latent_image`` is the VAE's latent before
scaling, and ``concat_mask`` is 0 where a frame is known and 1 where it is to be made (the host inverts it).
"""

from collections.abc import Mapping

import torch
from torch import Tensor

INPUT_WEIGHT = "img_in.proj.weight"


def known_frames_condition(
    first: Tensor, num_latent_frames: int, *, last: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Lay known latent frames into an otherwise empty clip.

    Args:
        first: (B, C, k, H, W), the clip's first frames, as the VAE encoded them; k may be 0.
        num_latent_frames: length T of the clip.
        last: (B, C, 1, H, W), its last frame, or None.
    Returns:
        concat_latent: (B, C, T, H, W), zero where nothing is known.
        concat_mask: (B, 1, T, H, W), 0 where a frame is known, 1 elsewhere.
    """
    batch, channels, num_first, height, width = first.shape
    assert num_first + (last is not None) <= num_latent_frames, (num_first, num_latent_frames)
    concat_latent = first.new_zeros(batch, channels, num_latent_frames, height, width)
    concat_mask = first.new_ones(batch, 1, num_latent_frames, height, width)
    concat_latent[:, :, :num_first] = first
    concat_mask[:, :, :num_first] = 0.0
    if last is not None:
        concat_latent[:, :, -1:] = last
        concat_mask[:, :, -1:] = 0.0
    return concat_latent, concat_mask


def expand_input_channels(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn a text-to-video DiT's weights into an image-to-video DiT's: C input channels become 2C + 1.

    The first C are copied and the other C + 1 are zero, so the outputs are the same whatever the image.

    Args:
        state_dict: the host's names. Every other tensor is shared, not copied.
    Source: paper section 3.
    """
    weight = state_dict[INPUT_WEIGHT]
    hidden_size, channels = weight.shape[:2]
    expanded = torch.zeros(hidden_size, 2 * channels + 1, *weight.shape[2:], dtype=weight.dtype)
    expanded[:, :channels] = weight
    return {**state_dict, INPUT_WEIGHT: expanded}


def pad_input_channels(weight: Tensor, num_channels: int) -> Tensor:
    """Pad dimension 1 of a convolution weight (or of its low-rank factor) with zeros up to ``num_channels``."""
    padded = weight.new_zeros(weight.shape[0], num_channels, *weight.shape[2:])
    padded[:, : weight.shape[1]] = weight
    return padded

"""The input channels of the image-to-video DiT: noisy latent (C), known frames (C), mask (1).

ComfyUI writes the two conditions its own way, and so do we: ``concat_latent_image`` is the VAE's latent before
scaling, and ``concat_mask`` is 0 where a frame is known and 1 where it is to be made (the host inverts it).
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

INPUT_WEIGHT = "img_in.proj.weight"


def known_frames_condition(
    known_latent: Tensor, num_latent_frames: int, *, positions: Sequence[int] | None = None
) -> tuple[Tensor, Tensor]:
    """Lay known latent frames into an otherwise empty clip.

    Args:
        known_latent: (B, C, k, H, W), as the VAE encoded it.
        num_latent_frames: length T of the clip.
        positions: which k latent frames of the clip they are; the first k if None.
    Returns:
        concat_latent: (B, C, T, H, W), zero where nothing is known.
        concat_mask: (B, 1, T, H, W), 0 where a frame is known, 1 elsewhere.
    Raises:
        ValueError: more known frames than the clip has, or a position outside it.
    """
    if known_latent.ndim != 5:
        raise ValueError(f"known_latent has shape {tuple(known_latent.shape)}; (B, C, k, H, W) is needed.")
    num_known = known_latent.shape[2]
    positions = list(range(num_known) if positions is None else positions)
    if len(positions) != num_known or len(set(positions)) != num_known:
        raise ValueError(f"{num_known} known latent frames cannot lie at positions {positions}.")
    if num_known > num_latent_frames or any(not 0 <= p < num_latent_frames for p in positions):
        raise ValueError(
            f"{num_known} known latent frames at {positions} do not fit a clip of {num_latent_frames} latent"
            f" frames. Ask for a longer clip, or give fewer frames."
        )
    batch, channels, _, height, width = known_latent.shape
    concat_latent = known_latent.new_zeros(batch, channels, num_latent_frames, height, width)
    concat_mask = known_latent.new_ones(batch, 1, num_latent_frames, height, width)
    concat_latent[:, :, positions] = known_latent
    concat_mask[:, :, positions] = 0.0
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

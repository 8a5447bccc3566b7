"""Inputs of one tiny clip: conditioning, latent and image condition, without any encoder."""

import torch
from magic141.model_patches.dit.channels import known_frames_condition

from .tiny_dit import TEXT_WIDTH

LATENT_SHAPE = (1, 16, 3, 6, 8)


def tiny_conditioning(
    *, image: bool = True, mask: bool = True, seed: int = 5, tokens: int = 7, **options
) -> list:
    """Return CONDITIONING in the host's format, with a one-frame image condition."""
    generator = torch.Generator().manual_seed(seed)
    text = torch.randn(1, tokens, TEXT_WIDTH, generator=generator)
    values = {"pooled_output": torch.randn(1, 768, generator=generator), **options}
    if image:
        known = torch.randn(1, 16, 1, *LATENT_SHAPE[-2:], generator=generator)
        values["concat_latent_image"], concat_mask = known_frames_condition(known, LATENT_SHAPE[2])
        if mask:
            values.setdefault("concat_mask", concat_mask)
    return [[text, values]]


def empty_latent(shape: tuple[int, ...] = LATENT_SHAPE) -> dict:
    return {"samples": torch.zeros(shape)}

"""Tiny random Wan 2.2 models (image to video, 36 input channels), opened by the host from their state dict."""

import torch
from torch import Tensor

DIM, FFN, TEXT_WIDTH, FREQ = 128, 192, 4096, 256
LATENT_SHAPE = (1, 16, 3, 6, 8)


def tiny_wan(in_channels: int = 36, *, seed: int = 0) -> dict[str, Tensor]:
    """Return a random state dict in the host's names: one block of one head.

    Args:
        in_channels: 36 (noise, mask, image) for image to video, 16 for text to video.
    """
    generator = torch.Generator().manual_seed(seed)
    return {key: _random(key, shape, generator) for key, shape in _shapes(in_channels).items()}


def wan_conditioning(*, seed: int = 5, tokens: int = 7) -> list:
    """Return CONDITIONING with one known frame, as WanImageToVideo gives it."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.ones(1, 1, *LATENT_SHAPE[2:])
    mask[:, :, :1] = 0.0
    image = torch.randn(LATENT_SHAPE, generator=generator)
    text = torch.randn(1, tokens, TEXT_WIDTH, generator=generator)
    return [[text, {"concat_latent_image": image, "concat_mask": mask}]]


def _shapes(in_channels: int) -> dict[str, tuple[int, ...]]:
    linears = {"text_embedding.0": (DIM, TEXT_WIDTH), "text_embedding.2": (DIM, DIM)}
    linears |= {"time_embedding.0": (DIM, FREQ), "time_embedding.2": (DIM, DIM)}
    linears |= {"time_projection.1": (6 * DIM, DIM), "head.head": (64, DIM)}
    linears |= {"blocks.0.ffn.0": (FFN, DIM), "blocks.0.ffn.2": (DIM, FFN)}
    for attention in ("self_attn", "cross_attn"):
        linears |= {f"blocks.0.{attention}.{name}": (DIM, DIM) for name in "qkvo"}
    shapes: dict[str, tuple[int, ...]] = {f"{name}.weight": shape for name, shape in linears.items()}
    shapes |= {f"{name}.bias": shape[:1] for name, shape in linears.items()}
    for attention in ("self_attn", "cross_attn"):
        shapes |= {f"blocks.0.{attention}.norm_{name}.weight": (DIM,) for name in "qk"}
    shapes |= {"blocks.0.norm3.weight": (DIM,), "blocks.0.norm3.bias": (DIM,)}
    shapes |= {"blocks.0.modulation": (1, 6, DIM), "head.modulation": (1, 2, DIM)}
    return shapes | {"patch_embedding.weight": (DIM, in_channels, 1, 2, 2), "patch_embedding.bias": (DIM,)}


def _random(key: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    values = torch.randn(shape, generator=generator)
    if len(shape) == 1 or "modulation" in key:
        return values * 0.1 + (1.0 if "norm" in key and key.endswith("weight") else 0.0)
    return values / (values[0].numel() ** 0.5)

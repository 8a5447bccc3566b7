"""Tiny random DiTs in the host's names, for tests that compare, load or sample."""

import torch
from magic141.model_patches.dit.keys import expected_shapes
from torch import Tensor

TEXT_WIDTH = 64


def tiny_dit(
    in_channels: int = 33, *, guidance: bool = False, seed: int = 0, dtype=torch.float32, **sizes
) -> dict[str, Tensor]:
    """Return a random state dict in the host's names: hidden 128, one double and one single block.

    Weights have the spread of a trained network rather than of an initialised one, so that every branch
    contributes to the output.
    """
    sizes = {"hidden_size": 128, "depth": 1, "depth_single": 1, "text_width": TEXT_WIDTH} | sizes
    shapes = expected_shapes(in_channels=in_channels, guidance=guidance, **sizes)
    generator = torch.Generator().manual_seed(seed)
    return {key: _random(key, shape, generator).to(dtype) for key, shape in shapes.items()}


def _random(key: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    values = torch.randn(shape, generator=generator)
    if len(shape) == 1:
        return values * 0.1 + (1.0 if "norm" in key and key.endswith("weight") else 0.0)
    return values / (values[0].numel() ** 0.5)

"""Plain frames, and what CIE says of their lightness."""

import torch
from torch import Tensor


def grays(*levels: float, side: int = 8) -> Tensor:
    """Return plain frames of these levels."""
    return torch.tensor(levels)[:, None, None, None].expand(-1, side, side, 3)


def lightness(level: float) -> float:
    """Return L* of a gray by CIE's formula."""
    linear = level / 12.92 if level <= 0.04045 else ((level + 0.055) / 1.055) ** 2.4
    return 116 * linear ** (1 / 3) - 16 if linear > 216 / 24389 else 24389 / 27 * linear

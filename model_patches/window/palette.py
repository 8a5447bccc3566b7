"""Hold the colors of a clip to a palette, each color by itself. Torch only.

Statistics of a whole picture change when an object comes nearer or leaves it. The colors in which pixels crowd do
not: a sky stays a crowd of blues however much of it is seen. So every color of the palette is looked up again in the
clip, and only its own shift is taken back. Frames are (T, H, W, C >= 3), sRGB in [0, 1].
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

RADIUS = 0.12
"""Spread of the pixels that count as one color: about thirty levels of 255."""
UNSEEN = 0.5 / 255
"""Rounding to bytes hides a smaller drift; to undo it would only move flat colors across a rounding edge."""
GONE, THERE = 0.1, 0.3
"""Shares of its former size at which a color no longer counts, and counts in full."""
SMALLEST = 0.002
"""A cell of the histogram with a smaller share of the pixels starts no color of the palette."""
SEED_LEVELS = 16
STEPS = 3
"""Steps of the search for a color. With more it would end in the nearest crowd, in a rich picture a neighbor's."""
READ_PIXELS = 65_536
LUT_SIDE = 33


@dataclass(frozen=True)
class Palette:
    """The colors in which the pixels of a clip crowd.

    seeds: (K, 3), where each is looked for. colors: (K, 3), where it was found. shares: (K,), the pixels near it.
    """

    seeds: Tensor
    colors: Tensor
    shares: Tensor


def read_palette(frames: Tensor) -> Palette:
    """Find the palette of a clip: colors at least twice ``RADIUS`` apart, from the fullest cells of a histogram."""
    pixels = _some_pixels(frames)
    levels = (pixels * SEED_LEVELS).long().clamp(max=SEED_LEVELS - 1)
    cells = (levels * levels.new_tensor([SEED_LEVELS**2, SEED_LEVELS, 1])).sum(-1)
    counts = torch.bincount(cells, minlength=SEED_LEVELS**3)
    fullest = counts.argsort(descending=True, stable=True)
    fullest = fullest[counts[fullest] >= min(SMALLEST * len(pixels), int(counts.max()))]
    seeds: list[Tensor] = []
    for cell in fullest.tolist():
        seed = pixels[cells == cell].mean(0)
        if all((seed - other).norm() > 2 * RADIUS for other in seeds):
            seeds.append(seed)
    return _look_up(pixels, torch.stack(seeds))


def hold_palette(frames: Tensor, palette: Palette, strength: float) -> Tensor:
    """Move the colors of a clip back to a palette, all frames by one transform.

    Args:
        frames: channels after the third are passed on.
        palette: the colors to move back to. One that is gone, or has drifted by more than ``RADIUS`` or by less than
            half a level of 255, moves nothing.
        strength: 0 leaves the frames as they are, 1 takes the whole drift back.
    """
    if strength == 0.0:
        return frames
    found = _look_up(_some_pixels(frames), palette.seeds)
    drift = found.colors - palette.colors
    weights = ((found.shares / palette.shares - GONE) / (THERE - GONE)).clamp(0, 1)
    length = drift.norm(dim=-1)
    weights = weights.masked_fill((length > RADIUS) | (length < UNSEEN), 0.0)
    return _add_offsets(frames, _offset_lut(found.colors, -strength * weights[:, None] * drift))


def _some_pixels(frames: Tensor) -> Tensor:
    """Return at most ``READ_PIXELS`` pixels (N, 3), the same ones for frames of the same size."""
    pixels = frames[..., :3].flatten(0, -2)
    if len(pixels) > READ_PIXELS:
        generator = torch.Generator().manual_seed(0)
        pixels = pixels[torch.randint(len(pixels), (READ_PIXELS,), generator=generator).to(pixels.device)]
    return pixels.float().cpu().clamp(0, 1)


def _look_up(pixels: Tensor, seeds: Tensor) -> Palette:
    """Climb from every seed towards where pixels (N, 3) are denser.

    The number of steps is small and fixed: clips with the same pixels get the same palette, even where the search has
    not arrived. Source: mean shift (Comaniciu and Meer 2002).
    """
    colors, shares = seeds, torch.zeros(len(seeds))
    for _ in range(STEPS):
        weights = _nearness(colors, pixels)
        colors = (weights @ pixels) / weights.sum(1, keepdim=True).clamp_min(1e-12)
        shares = weights.mean(1)
    return Palette(seeds, colors, shares)


def _nearness(colors: Tensor, others: Tensor) -> Tensor:
    """Return how near two sets of colors are, 1 where they are the same and less than 0.14 from 2 RADIUS on."""
    return torch.exp(-torch.cdist(colors, others).square() / (2 * RADIUS**2))


def _offset_lut(colors: Tensor, offsets: Tensor) -> Tensor:
    """Return a 3D LUT (side, side, side, 3) by red, green and blue of what is added to a color.

    Between two colors of the palette their offsets are blended; far from all of them nothing is added.
    """
    axis = torch.linspace(0, 1, LUT_SIDE)
    entries = torch.cartesian_prod(axis, axis, axis)
    weights = _nearness(entries, colors)
    blended = (weights @ offsets) / weights.sum(1, keepdim=True).clamp_min(1e-3)
    return blended.reshape(LUT_SIDE, LUT_SIDE, LUT_SIDE, 3)


def _add_offsets(frames: Tensor, lut: Tensor) -> Tensor:
    """Add to every pixel the offset of its color, interpolated linearly between entries; a frame at a time."""
    table = lut.permute(3, 0, 1, 2)[None].to(frames)
    corrected = frames.clone()
    for frame in corrected:
        where = frame[..., :3].clamp(0, 1).flip(-1) * 2 - 1  # grid_sample names the last axis first
        offsets = F.grid_sample(table, where[None, None], align_corners=True)[0, :, 0].movedim(0, -1)
        frame[..., :3] = (frame[..., :3] + offsets).clamp(0, 1)
    return corrected

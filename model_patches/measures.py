"""Measure frames: color (CIE Lab, delta E), sharpness, motion and seams. Torch only.

Frames are (T, H, W, 3) in [0, 1], sRGB, as the host's IMAGE; leading batch dimensions are allowed where noted.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

# CIE 1931 from linear sRGB, D65 white. Source: IEC 61966-2-1.
_XYZ_FROM_RGB = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)
_WHITE_D65 = (0.95047, 1.0, 1.08883)

MEASURED_FRAMES = 8
MEASURED_SIDE_PX = 256
"""Color, sharpness and motion are means: a few frames and a grid of pixels give the same in little time."""

FLOW_SIDE_PX = 64
"""Shorter side to which a picture is scaled to read its motion: a step of a few percent is a few pixels there."""

OPPOSITE_DEG = 1e-9
"""Tolerance at half a turn: rounding must not put hues that are exactly opposite on the other side."""

STILL_STEP = 1.0 / 255.0
"""Mean step between frames below which a clip counts as still: no seam can be told from noise."""


def srgb_to_lab(rgb: Tensor) -> Tensor:
    """Convert sRGB in [0, 1] to CIE L*a*b* (D65); the last dimension is the channel."""
    rgb = rgb.float().clamp(0, 1)
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = linear @ torch.tensor(_XYZ_FROM_RGB).T.to(rgb) / torch.tensor(_WHITE_D65).to(rgb)
    epsilon, kappa = 216 / 24389, 24389 / 27
    f = torch.where(xyz > epsilon, xyz.clamp_min(epsilon) ** (1 / 3), (kappa * xyz + 16) / 116)
    fx, fy, fz = f.unbind(-1)
    return torch.stack([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)], dim=-1)


def delta_e(lab: Tensor, other: Tensor) -> Tensor:
    """Return the color difference CIEDE2000 of two Lab colors.

    Args:
        lab, other: (..., 3).

    Returns:
        (...), about 1 where the eye begins to see a difference.

    Source: Sharma, Wu, Dalal, "The CIEDE2000 Color-Difference Formula", 2005; the numbers are theirs.
    """
    (l1, a1, b1), (l2, a2, b2) = lab.double().unbind(-1), other.double().unbind(-1)
    mean_c7 = ((torch.hypot(a1, b1) + torch.hypot(a2, b2)) / 2) ** 7
    g = 0.5 * (1 - (mean_c7 / (mean_c7 + 25.0**7)).sqrt())
    c1, c2 = torch.hypot((1 + g) * a1, b1), torch.hypot((1 + g) * a2, b2)
    h1, h2 = _hue(b1, (1 + g) * a1), _hue(b2, (1 + g) * a2)
    gray = c1 * c2 == 0
    dh = torch.where(gray, torch.zeros_like(h1), _hue_difference(h1, h2))
    big_dh = 2 * (c1 * c2).sqrt() * torch.sin(torch.deg2rad(dh) / 2)
    h = torch.where(gray, h1 + h2, (h1 + dh / 2) % 360)
    return _weighted(l2 - l1, c2 - c1, big_dh, (l1 + l2) / 2, (c1 + c2) / 2, h).to(lab.dtype)


def _hue(b: Tensor, a: Tensor) -> Tensor:
    return torch.rad2deg(torch.atan2(b, a)) % 360


def _hue_difference(h1: Tensor, h2: Tensor) -> Tensor:
    """Return h2 - h1 the short way round, in degrees; half a turn keeps the sign it has, as the paper's table does."""
    dh = h2 - h1
    return dh - 360 * (dh > 180 + OPPOSITE_DEG) + 360 * (dh < -180 - OPPOSITE_DEG)


def _weighted(dl: Tensor, dc: Tensor, dh: Tensor, lightness: Tensor, chroma: Tensor, hue: Tensor) -> Tensor:
    """Step 3 of the CIEDE2000 paper: weights of lightness, chroma and hue, and their rotation term."""

    def cosine(factor: float, offset: float) -> Tensor:
        return torch.cos(torch.deg2rad(factor * hue + offset))

    t = 1 - 0.17 * cosine(1, -30) + 0.24 * cosine(2, 0) + 0.32 * cosine(3, 6) - 0.20 * cosine(4, -63)
    s_l = 1 + 0.015 * (lightness - 50) ** 2 / (20 + (lightness - 50) ** 2).sqrt()
    s_c, s_h = 1 + 0.045 * chroma, 1 + 0.015 * chroma * t
    d_theta = 30 * torch.exp(-(((hue - 275) / 25) ** 2))
    r_t = -torch.sin(torch.deg2rad(2 * d_theta)) * 2 * (chroma**7 / (chroma**7 + 25.0**7)).sqrt()
    parts = (dl / s_l) ** 2 + (dc / s_c) ** 2 + (dh / s_h) ** 2 + r_t * (dc / s_c) * (dh / s_h)
    return parts.clamp_min(0).sqrt()


def mean_lab(frames: Tensor) -> Tensor:
    """Return the mean color of a clip in Lab, (3,)."""
    return srgb_to_lab(_evenly_spaced(_grid(frames))[..., :3]).flatten(0, -2).mean(0)


def frame_difference(frames: Tensor, others: Tensor) -> float:
    """Return the mean color difference (delta E) of two clips of one shape, pixel by pixel."""
    one, other = (srgb_to_lab(_grid(clip)[..., :3]) for clip in (frames, others))
    return float(delta_e(one, other).mean())


def _evenly_spaced(frames: Tensor) -> Tensor:
    """Return evenly spaced frames, both ends among them."""
    count = min(len(frames), MEASURED_FRAMES)
    return frames[torch.linspace(0, len(frames) - 1, count).round().long()]


def _grid(frames: Tensor) -> Tensor:
    """Return every n-th pixel of every n-th row, so that a side is about ``MEASURED_SIDE_PX`` at most."""
    step = max(1, min(frames.shape[1:3]) // MEASURED_SIDE_PX)
    return frames[:, ::step, ::step]


def sharpness(frames: Tensor) -> float:
    """Return the mean absolute Laplacian of the lightness: falls as a picture blurs."""
    luma = _luma(_evenly_spaced(frames))
    around = luma[:, :-2, 1:-1] + luma[:, 2:, 1:-1]
    # in place: to allocate a tensor of this size takes longer than to fill it
    around.add_(luma[:, 1:-1, :-2]).add_(luma[:, 1:-1, 2:])
    return float((4 * luma[:, 1:-1, 1:-1]).sub_(around).abs_().mean())


def motion_steps(luma: Tensor) -> Tensor:
    """Return the mean absolute change from each frame of ``luma_grid`` to the next, (T - 1,)."""
    return luma.diff(dim=0).abs_().flatten(1).mean(1)


def _luma(frames: Tensor) -> Tensor:
    return frames[..., :3].float().clamp(0, 1) @ torch.tensor([0.2126, 0.7152, 0.0722]).to(frames.device)


def luma_grid(frames: Tensor) -> Tensor:
    """Return the luma of a grid of pixels of every frame, (T, h, w)."""
    return _luma(_grid(frames))


def mean_motion(luma: Tensor) -> tuple[float, float]:
    """Return how far the picture moves right and down from frame to frame, as shares of its shorter side.

    One displacement for the whole picture, by least squares on brightness constancy; plain areas add nothing. Steps
    above about 5 % of the side are underestimated.

    Args:
        luma: from ``luma_grid``, T >= 2.

    Source: Lucas and Kanade, "An Iterative Image Registration Technique with an Application to Stereo Vision", 1981.
    """
    luma = luma[:, None]
    scale = min(1.0, FLOW_SIDE_PX / min(luma.shape[-2:]))
    size = [max(3, round(scale * side)) for side in luma.shape[-2:]]
    luma = F.interpolate(luma, size=size, mode="area")[:, 0]
    change, between = luma.diff(dim=0)[:, 1:-1, 1:-1], (luma[1:] + luma[:-1]) / 2
    right = (between[:, 1:-1, 2:] - between[:, 1:-1, :-2]) / 2
    down = (between[:, 2:, 1:-1] - between[:, :-2, 1:-1]) / 2
    slopes = torch.stack([right.flatten(), down.flatten()], dim=1).double()
    normal = slopes.T @ slopes + 1e-9 * torch.eye(2, dtype=torch.float64, device=slopes.device)
    step = torch.linalg.solve(normal, -slopes.T @ change.flatten().double()) / min(size)
    return float(step[0]), float(step[1])


def seam_ratio(before: Tensor, after: Tensor) -> float:
    """Return the step across a seam divided by the usual step beside it: 1 is an invisible seam, 0 a doubled frame.

    Args:
        before: ``luma_grid`` of the last few frames up to the seam, T >= 1.
        after: the same of the first few frames after it.
    """
    steps = motion_steps(torch.cat([before, after]))
    across = steps[len(before) - 1]
    inside = torch.cat([steps[: len(before) - 1], steps[len(before) :]])
    usual = inside.median() if inside.numel() else across
    return float((across + STILL_STEP) / (usual + STILL_STEP))

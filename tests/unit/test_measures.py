"""Measures on frames."""

import math

import pytest
import torch
from magic141.model_patches.measures import delta_e, sharpness, srgb_to_lab
from magic141.tests.support.measured import motion_of
from magic141.tests.support.sharma_pairs import PAIRS


@pytest.mark.parametrize(("one", "other", "wanted"), PAIRS)
def test_delta_e_agrees_with_the_published_pairs(one, other, wanted):
    one, other = torch.tensor(one, dtype=torch.float64), torch.tensor(other, dtype=torch.float64)
    assert float(delta_e(one, other)) == pytest.approx(wanted, abs=1e-4)
    assert float(delta_e(other, one)) == pytest.approx(wanted, abs=1e-4)
    assert float(delta_e(one, one)) == 0.0


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [
        ((1, 1, 1), (100, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((1, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 0, 1), (32.30, 79.19, -107.86)),
    ],
)
def test_lab_of_known_colors(rgb, lab):
    assert srgb_to_lab(torch.tensor(rgb).float()).tolist() == pytest.approx(lab, abs=0.02)


def going(right: float, down: float, *, side: int, count: int = 6) -> torch.Tensor:
    """A soft disc on a plain ground, a step further in every frame."""
    y, x = torch.meshgrid(torch.arange(side).float(), torch.arange(2.0 * side), indexing="ij")
    frames = []
    for i in range(count):
        distance = torch.hypot(x - side - i * right, y - side / 2 - i * down)
        frames.append(0.2 + 0.6 * torch.sigmoid((side / 6 - distance) / (side / 64)))
    return torch.stack(frames)[..., None].expand(-1, -1, -1, 3)


@pytest.mark.parametrize("side", [64, 300])
@pytest.mark.parametrize(("right", "down"), [(1, 0), (0.5, -0.5), (-0.7, 0.3), (0, 1.5)])
def test_the_mean_motion_is_the_way_a_thing_goes(right, down, side):
    step = side / 64
    motion = motion_of(going(right * step, down * step, side=side))
    assert motion == pytest.approx((right / 64, down / 64), abs=0.1 * math.hypot(right, down) / 64)


def test_blur_lowers_sharpness():
    noise = torch.rand(2, 16, 16, 3, generator=torch.Generator().manual_seed(0))
    blurred = (noise + noise.roll(1, 1) + noise.roll(1, 2)) / 3
    assert sharpness(blurred) < sharpness(noise)

"""Measures on frames."""

import math

import pytest
import torch
from magic141.model_patches.window.measure import (
    delta_e,
    mean_lab,
    mean_motion,
    measure_window,
    seam_badness,
    seam_is_good,
    seam_ratio,
    sharpness,
    srgb_to_lab,
    summarize,
    turned_deg,
)

# Pairs 1, 7, 9 to 17, 25 and 34 of the test data of Sharma, Wu and Dalal (2005), table 1.
SHARMA = [
    ((50.0, 2.6772, -79.7751), (50.0, 0.0, -82.7485), 2.0425),
    ((50.0, 0.0, 0.0), (50.0, -1.0, 2.0), 2.3669),
    ((50.0, 2.4900, -0.0010), (50.0, -2.4900, 0.0009), 7.1792),
    ((50.0, 2.4900, -0.0010), (50.0, -2.4900, 0.0010), 7.1792),
    ((50.0, 2.4900, -0.0010), (50.0, -2.4900, 0.0011), 7.2195),
    ((50.0, 2.4900, -0.0010), (50.0, -2.4900, 0.0012), 7.2195),
    ((50.0, -0.0010, 2.4900), (50.0, 0.0009, -2.4900), 4.8045),
    ((50.0, -0.0010, 2.4900), (50.0, 0.0010, -2.4900), 4.8045),
    ((50.0, -0.0010, 2.4900), (50.0, 0.0011, -2.4900), 4.7461),
    ((50.0, 2.5, 0.0), (50.0, 0.0, -2.5), 4.3065),
    ((50.0, 2.5, 0.0), (73.0, 25.0, -18.0), 27.1492),
    ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
]


@pytest.mark.parametrize(("one", "other", "wanted"), SHARMA)
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


def moving_bar(start: int, count: int) -> torch.Tensor:
    frames = torch.zeros(count, 16, 64, 3)
    for i in range(count):
        frames[i, :, (start + i) % 60 : (start + i) % 60 + 4] = 1.0
    return frames


@pytest.mark.parametrize(("gap", "good"), [(0, True), (-1, False), (6, False)])
def test_seam_ratio_sees_doubled_and_dropped_frames(gap, good):
    ratio = seam_ratio(moving_bar(0, 10), moving_bar(10 + gap, 10))
    assert seam_is_good(ratio) is good
    assert (ratio == pytest.approx(1.0)) is good


def test_a_still_clip_has_good_seams():
    still = torch.full((5, 8, 8, 3), 0.5)
    assert seam_ratio(still, still) == 1.0
    assert seam_ratio(still[:1], still[:1]) == 1.0


def test_seam_badness_is_symmetric():
    assert seam_badness(0.25) == seam_badness(4.0) == 4.0
    assert seam_badness(0.0) == math.inf
    for limit in (1.5, 1 / 1.5):
        assert [seam_is_good(ratio, limit) for ratio in (0.5, 0.8, 1.4, 1.6)] == [False, True, True, False]


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
    motion = mean_motion(going(right * step, down * step, side=side))
    assert motion == pytest.approx((right / 64, down / 64), abs=0.1 * math.hypot(right, down) / 64)


def test_a_turn_is_an_angle_and_what_stands_still_has_none():
    assert turned_deg((0.01, 0.0), (0.0, 0.02)) == pytest.approx(90)
    assert turned_deg((-0.01, 1e-4), (0.01, 1e-4)) == pytest.approx(180, abs=2)
    assert turned_deg((0.01, 0.0), (0.0005, 0.0)) is None
    still = torch.full((3, 8, 8, 3), 0.5)
    assert mean_motion(still) == (0.0, 0.0)
    assert "turned_deg" not in measure_window(
        still, reference_lab=mean_lab(still), before=None, held=(0.01, 0.0)
    )


def test_blur_lowers_sharpness():
    noise = torch.rand(2, 16, 16, 3, generator=torch.Generator().manual_seed(0))
    blurred = (noise + noise.roll(1, 1) + noise.roll(1, 2)) / 3
    assert sharpness(blurred) < sharpness(noise)


def test_measures_of_a_window_and_their_summary():
    first, tinted = moving_bar(0, 8), moving_bar(8, 8) * torch.tensor([1.0, 0.8, 0.8])
    reference = mean_lab(first)
    windows = [
        measure_window(first, reference_lab=reference, before=None),
        measure_window(tinted, reference_lab=reference, before=first, held=(0.0, 0.02)),
    ]
    assert windows[0]["color_shift"] == 0.0
    assert "seam_motion" not in windows[0]
    assert windows[1]["color_shift"] > 1.0
    summary = summarize(windows)
    assert summary["color_shift_last"] == windows[1]["color_shift"]
    assert summary["brightness_change"] < 0
    assert 0 <= summary["seams_ok_share"] <= 1
    assert windows[0]["motion_right"] > 0
    assert "turned_deg" not in windows[0]
    assert summary["turned_max_deg"] == windows[1]["turned_deg"] == pytest.approx(90, abs=1)
    assert summarize([]) == {}

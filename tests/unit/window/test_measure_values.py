"""Measures of frames whose values follow by hand."""

import math

import pytest
import torch
from magic141.model_patches.window.measure import (
    FLOW_SIDE_PX,
    MEASURED_FRAMES,
    MEASURED_SIDE_PX,
    STILL_STEP,
    cosine_similarity,
    delta_e,
    mean_lab,
    mean_motion,
    measure_window,
    luma_grid,
    motion_steps,
    seam_badness,
    seam_is_good,
    seam_ratio,
    sharpness,
    srgb_to_lab,
    summarize,
    turned_deg,
)
from torch import Tensor


def grays(*levels: float, side: int = 8) -> Tensor:
    """Return plain frames of these levels."""
    return torch.tensor(levels)[:, None, None, None].expand(-1, side, side, 3)


def lightness(level: float) -> float:
    """Return L* of a gray by CIE's formula."""
    linear = level / 12.92 if level <= 0.04045 else ((level + 0.055) / 1.055) ** 2.4
    return 116 * linear ** (1 / 3) - 16 if linear > 216 / 24389 else 24389 / 27 * linear


@pytest.mark.parametrize("level", [0.0, 0.01, 0.04, 0.041, 0.2, 0.5, 1.0, 1.7])
def test_the_lightness_of_grays(level):
    lab = srgb_to_lab(torch.full((3,), level)).tolist()
    assert lab == pytest.approx([lightness(min(level, 1.0)), 0, 0], abs=2e-3)


def test_a_clips_mean_color_is_that_of_evenly_spaced_frames_with_both_ends():
    white_ends = grays(1, *[0] * 18, 1)
    assert float(mean_lab(white_ends)[0]) == pytest.approx(100 * 2 / MEASURED_FRAMES, abs=0.01)
    every = grays(*[0] * (MEASURED_FRAMES - 1), 1)
    assert float(mean_lab(every)[0]) == pytest.approx(100 / MEASURED_FRAMES, abs=0.01)


def test_large_pictures_are_measured_on_a_grid():
    """Every second row and column is black, and only those are looked at."""
    picture = torch.ones(1, 2 * MEASURED_SIDE_PX, 2 * MEASURED_SIDE_PX, 3)
    picture[:, ::2, ::2] = 0
    assert mean_lab(picture).tolist() == pytest.approx([0, 0, 0], abs=1e-4)
    assert float(mean_lab(picture[:, :-1])[0]) > 50, "one row less needs no grid"


def test_sharpness_is_the_mean_laplacian_of_the_luma():
    rows, columns = torch.meshgrid(torch.arange(6), torch.arange(6), indexing="ij")
    board = ((rows + columns) % 2).float()[None, ..., None].expand(2, -1, -1, 3)
    assert sharpness(board) == pytest.approx(4.0, abs=1e-5)
    ramp = (columns.float() ** 2 / 100)[None, ..., None].expand(1, -1, -1, 3)
    assert sharpness(ramp) == pytest.approx(2 / 100, abs=1e-5)
    assert sharpness(ramp.transpose(1, 2)) == pytest.approx(2 / 100, abs=1e-5)


def test_motion_is_the_mean_change_of_luma():
    assert motion_steps(luma_grid(grays(0, 0.25, 1, 0.75))).tolist() == pytest.approx([0.25, 0.75, 0.25])
    for channel, weight in enumerate((0.2126, 0.7152, 0.0722)):
        frames = torch.zeros(2, 4, 4, 3)
        frames[1, ..., channel] = 1
        assert motion_steps(luma_grid(frames)).tolist() == pytest.approx([weight])


def test_a_seam_is_the_step_across_over_the_median_step_of_the_four_frames_on_either_side():
    before, after = grays(0.9, 0.0, 0.1, 0.2, 0.3), grays(0.5, 0.6, 0.7, 0.8, 0.0)
    assert seam_ratio(before, after) == pytest.approx((0.2 + STILL_STEP) / (0.1 + STILL_STEP), rel=1e-4)
    uneven = grays(0.0, 0.3, 0.3, 0.3)
    assert seam_ratio(uneven, grays(0.3, 0.5)) == pytest.approx(1.0), (
        "steps .3 0 0 .2, of which the median is 0"
    )
    assert seam_ratio(grays(0.2), grays(0.5)) == pytest.approx(1.0), "no step beside it to compare with"


@pytest.mark.parametrize(
    ("ratio", "limit", "good"),
    [
        (2.0, 2.0, True),
        (2.01, 2.0, False),
        (0.5, 2.0, True),
        (0.49, 2.0, False),
        (2.0, 0.5, True),
        (0, 2.0, False),
    ],
)
def test_a_seam_within_the_limit_is_good_either_way(ratio, limit, good):
    assert seam_is_good(ratio, limit) is good


def test_how_bad_a_seam_is():
    assert [seam_badness(ratio) for ratio in (4.0, 0.25, 1.0, 0.0, -1.0)] == [4, 4, 1, math.inf, math.inf]
    assert seam_is_good(2.0)
    assert not seam_is_good(2.1)


def sliding(step_px: float, *, side: int, tall: int | None = None, count: int = 4) -> Tensor:
    """Return a smooth pattern that moves to the right and down by as much."""
    rows, columns = torch.meshgrid(
        torch.arange(tall or side).float(), torch.arange(side).float(), indexing="ij"
    )
    wave = 2 * math.pi / side
    frames = [
        0.5
        + 0.2 * torch.sin(wave * 2 * (columns - step_px * t))
        + 0.2 * torch.sin(wave * 2 * (rows - step_px * t))
        for t in range(count)
    ]
    return torch.stack(frames)[..., None].expand(-1, -1, -1, 3)


@pytest.mark.parametrize("side", [32, FLOW_SIDE_PX, 2 * FLOW_SIDE_PX])
def test_motion_is_told_in_shorter_sides_a_frame(side):
    right, down = mean_motion(sliding(side / 64, side=side))
    assert (right, down) == pytest.approx((1 / 64, 1 / 64), rel=0.1)
    right, down = mean_motion(sliding(side / 64, side=side, tall=2 * side))
    assert (right, down) == pytest.approx((1 / 64, 1 / 64), rel=0.1)


def test_fine_patterns_that_stand_still_do_not_hide_the_motion_of_a_large_picture():
    side = 4 * FLOW_SIDE_PX
    fine = 0.1 * torch.tensor([1.0, 1.0, -1.0, -1.0]).repeat(FLOW_SIDE_PX)
    frames = sliding(4, side=side) + fine[None, None, :, None] + fine[None, :, None, None]
    assert mean_motion(frames) == pytest.approx((1 / 64, 1 / 64), rel=0.1)


def test_a_turn_below_the_slowest_motion_is_none():
    assert turned_deg((0.001, 0.0), (0.0, 0.001)) == pytest.approx(90)
    assert turned_deg((0.00099, 0.0), (0.0, 0.001)) is None
    assert turned_deg((0.001, 0.0), (0.0, 0.00099)) is None
    assert turned_deg((1.0, 1.0), (1.0, 0.0)) == turned_deg((1.0, -1.0), (1.0, 0.0)) == pytest.approx(45)


def test_the_measures_of_a_window_are_those_of_its_frames():
    before, frames = grays(0.1, 0.2), grays(0.4, 0.5, 0.8)
    reference = torch.tensor([lightness(0.3), 0.0, 0.0])
    measures = measure_window(frames, reference_lab=reference, before=before)
    lab = torch.tensor([sum(map(lightness, (0.4, 0.5, 0.8))) / 3, 0.0, 0.0])
    assert measures["brightness"] == pytest.approx(float(lab[0]) / 100, abs=1e-4)
    assert measures["color_shift"] == pytest.approx(float(delta_e(lab, reference)), abs=1e-3)
    assert measures["motion"] == pytest.approx(0.1, abs=1e-5)
    assert measures["sharpness"] == pytest.approx(0, abs=1e-6)
    ends = (torch.tensor([lightness(level), 0.0, 0.0]) for level in (0.2, 0.4))
    assert measures["seam_color_shift"] == pytest.approx(float(delta_e(*ends)), abs=1e-3)
    assert measures["seam_motion"] == pytest.approx(seam_ratio(before, frames))


def test_contrast_is_the_spread_of_luma_and_pace_the_speed_behind_a_seam_over_that_before_it():
    frames = grays(0.5, 0.5, 0.5, 0.5).clone()
    frames[:, :4], frames[:, 4:] = 0.25, 0.75
    measures = measure_window(frames, reference_lab=mean_lab(frames), before=None)
    assert measures["contrast"] == pytest.approx(0.25, rel=0.01)
    assert "seam_pace" not in measures
    before, fast = grays(0.9, 0.0, 0.1, 0.2, 0.3), grays(0.5, 0.7, 0.9, 1.0)
    pace = measure_window(fast, reference_lab=mean_lab(fast), before=before)["seam_pace"]
    assert pace == pytest.approx((0.2 + STILL_STEP) / (0.1 + STILL_STEP), rel=1e-3)
    few = measure_window(fast[:3], reference_lab=mean_lab(fast), before=before)
    assert "seam_pace" not in few
    assert "seam_pace" not in measure_window(fast, reference_lab=mean_lab(fast), before=before[-3:])


@pytest.mark.parametrize(
    ("begin", "end", "share"), [(0.6, 0.6, 0.0), (0.6, 0.3, 0.75), (0.6, 0.2, 1.0), (0.6, 0.9, 0.0), (0.21, 0.2, None)]
)
def test_the_way_back_to_the_first_frame_is_a_share_of_the_way_from_it(begin, end, share):
    before, frames = grays(begin), grays(begin, end)
    measures = measure_window(frames, reference_lab=mean_lab(frames), before=before, start=grays(0.2))
    assert measures.get("returned") == (None if share is None else pytest.approx(share, abs=1e-4))


def test_a_window_of_one_frame_has_no_motion():
    measures = measure_window(grays(0.5), reference_lab=mean_lab(grays(0.5)), before=None, held=(0.1, 0.1))
    assert set(measures) == {"color_shift", "brightness", "sharpness", "contrast", "motion"}
    assert measures["motion"] == 0


def test_a_summary_tells_the_worst_and_the_last_against_the_first():
    def window(color_shift: float, brightness: float, sharp: float, **others: float) -> dict[str, float]:
        return {"color_shift": color_shift, "brightness": brightness, "sharpness": sharp, **others}

    summary = summarize(
        [
            window(0, 0.5, 0.02),
            window(7, 0.1, 0.04, turned_deg=40, seam_motion=0.25, seam_color_shift=3),
            window(2, 0.4, 0.01, turned_deg=10, seam_motion=1.5, seam_color_shift=1),
        ]
    )
    assert summary == {
        "color_shift_last": 2,
        "color_shift_max": 7,
        "brightness_change": pytest.approx(-0.1),
        "sharpness_kept": pytest.approx(0.5),
        "turned_max_deg": 40,
        "seams_ok_share": 0.5,
        "seam_worst": 4,
        "seam_color_shift_max": 3,
    }
    assert set(summarize([window(0, 0.5, 0.0)])) == {
        "color_shift_last",
        "color_shift_max",
        "brightness_change",
        "sharpness_kept",
    }
    assert summarize([window(0, 0.5, 0.0)])["sharpness_kept"] == 0


def test_cosines_are_those_of_rows():
    features = torch.tensor([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0]])
    assert cosine_similarity(features, torch.tensor([5.0, 0.0])).tolist() == pytest.approx([1, 0, -1])

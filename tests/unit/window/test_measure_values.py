"""Measures of windows whose values follow by hand."""

import math

import pytest
import torch
from magic141.model_patches.measures import STILL_STEP, delta_e, mean_lab
from magic141.model_patches.window.measure import (
    measure_window,
    seam_badness,
    summarize,
    turned_deg,
)
from magic141.tests.support.gray_frames import grays, lightness
from magic141.tests.support.measured import seam_of


@pytest.mark.parametrize(("ratio", "good"), [(2.0, 1), (2.01, 0), (0.5, 1), (0.49, 0), (0, 0)])
def test_a_seam_is_good_up_to_twice_or_half_the_motion_beside_it(ratio, good):
    window = {"color_shift": 0.0, "brightness": 0.5, "sharpness": 0.1, "seam_motion": ratio}
    assert summarize([window])["seams_ok_share"] == good


def test_how_bad_a_seam_is():
    assert [seam_badness(ratio) for ratio in (4.0, 0.25, 1.0, 0.0, -1.0)] == [4, 4, 1, math.inf, math.inf]


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
    assert measures["seam_motion"] == pytest.approx(seam_of(before, frames))


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
    ("begin", "end", "share"),
    [(0.6, 0.6, 0.0), (0.6, 0.3, 0.75), (0.6, 0.2, 1.0), (0.6, 0.9, 0.0), (0.21, 0.2, None)],
)
def test_the_way_back_to_the_first_frame_is_a_share_of_the_way_from_it(begin, end, share):
    before, frames = grays(begin), grays(begin, end)
    measures = measure_window(frames, reference_lab=mean_lab(frames), before=before, start=grays(0.2))
    assert measures.get("returned") == (None if share is None else pytest.approx(share, abs=1e-4))


def test_a_window_of_one_frame_has_no_motion():
    measures = measure_window(
        grays(0.5), reference_lab=mean_lab(grays(0.5)), before=None, wanted_motion=(0.1, 0.1)
    )
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


def test_a_seam_is_measured_on_the_four_frames_beside_it_and_pace_on_four_of_each():
    before, frames = grays(0.9, 0.0, 0.1, 0.3, 0.6, 0.7), grays(0.5, 0.6, 0.8, 0.9, 0.1, 1.0)
    measures = measure_window(frames, reference_lab=mean_lab(frames), before=before)
    assert measures["seam_motion"] == pytest.approx(seam_of(before[-4:], frames[:4]))
    assert measures["seam_motion"] == pytest.approx((0.2 + STILL_STEP) / (0.1 + STILL_STEP), rel=1e-4)
    assert measures["seam_pace"] == pytest.approx((0.1 + STILL_STEP) / (0.2 + STILL_STEP), rel=1e-3)


def test_what_windows_of_older_versions_lack_is_left_out_of_the_summary():
    def window(**others: float) -> dict[str, float]:
        return {"color_shift": 0.0, "brightness": 0.5, "sharpness": 0.1, **others}

    summary = summarize([window(), window(seam_motion=1.0, seam_color_shift=0.25), window(seam_motion=1.0)])
    assert summary["seam_color_shift_max"] == 0.25
    assert summarize([window(seam_motion=1.0)])["seam_color_shift_max"] == 0
    for windows in ([window(contrast=0.1), window()], [window(), window(contrast=0.1)]):
        assert "contrast_kept" not in summarize(windows)
    assert summarize([window(contrast=0.2), window(contrast=0.1)])["contrast_kept"] == pytest.approx(0.5)
    assert summarize([window(contrast=0.0), window(contrast=0.0)])["contrast_kept"] == 0
    assert summarize([]) == {}


@pytest.mark.parametrize(("begin", "returned"), [(0.2 + 3.9 / 255, False), (0.2 + 4.1 / 255, True)])
def test_a_way_shorter_than_four_levels_is_none(begin, returned):
    frames = grays(begin, 0.2)
    measures = measure_window(frames, reference_lab=mean_lab(frames), before=grays(begin), start=grays(0.2))
    assert ("returned" in measures) is returned


def test_a_turn_is_told_where_a_motion_is_held():
    frames = torch.rand(1, 40, 40, 3, generator=torch.Generator().manual_seed(0))
    frames = torch.nn.functional.avg_pool2d(frames.movedim(-1, 1), 5, 1).movedim(1, -1)
    moving = torch.cat([frames.roll(step, 2) for step in range(4)])
    measures = measure_window(moving, reference_lab=mean_lab(moving), before=None, wanted_motion=(0.0, 0.02))
    assert measures["motion_right"] > 0.01
    assert measures["turned_deg"] == pytest.approx(90, abs=20)
    for held in (None, (0.0, 0.0)):
        still = measure_window(moving, reference_lab=mean_lab(moving), before=None, wanted_motion=held)
        assert "turned_deg" not in still

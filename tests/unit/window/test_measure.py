"""Measures of a window, its seams among them."""

import math

import pytest
import torch
from magic141.model_patches.measures import mean_lab
from magic141.model_patches.window.measure import (
    SEAM_SEEN,
    measure_window,
    seam_badness,
    summarize,
    turned_deg,
)
from magic141.tests.support.measured import motion_of, seam_of


def moving_bar(start: int, count: int) -> torch.Tensor:
    frames = torch.zeros(count, 16, 64, 3)
    for i in range(count):
        frames[i, :, (start + i) % 60 : (start + i) % 60 + 4] = 1.0
    return frames


@pytest.mark.parametrize(("gap", "good"), [(0, True), (-1, False), (6, False)])
def test_seam_ratio_sees_doubled_and_dropped_frames(gap, good):
    ratio = seam_of(moving_bar(0, 10), moving_bar(10 + gap, 10))
    assert (seam_badness(ratio) <= SEAM_SEEN) is good
    assert (ratio == pytest.approx(1.0)) is good


def test_a_still_clip_has_good_seams():
    still = torch.full((5, 8, 8, 3), 0.5)
    assert seam_of(still, still) == 1.0
    assert seam_of(still[:1], still[:1]) == 1.0


def test_seam_badness_is_symmetric():
    assert seam_badness(0.25) == seam_badness(4.0) == 4.0
    assert seam_badness(0.0) == math.inf


def test_a_turn_is_an_angle_and_what_stands_still_has_none():
    assert turned_deg((0.01, 0.0), (0.0, 0.02)) == pytest.approx(90)
    assert turned_deg((-0.01, 1e-4), (0.01, 1e-4)) == pytest.approx(180, abs=2)
    assert turned_deg((0.01, 0.0), (0.0005, 0.0)) is None
    still = torch.full((3, 8, 8, 3), 0.5)
    assert motion_of(still) == (0.0, 0.0)
    assert "turned_deg" not in measure_window(
        still, reference_lab=mean_lab(still), before=None, wanted_motion=(0.01, 0.0)
    )


def test_measures_of_a_window_and_their_summary():
    first, tinted = moving_bar(0, 8), moving_bar(8, 8) * torch.tensor([1.0, 0.8, 0.8])
    reference = mean_lab(first)
    windows = [
        measure_window(first, reference_lab=reference, before=None),
        measure_window(tinted, reference_lab=reference, before=first, wanted_motion=(0.0, 0.02)),
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

"""Flashes whose size follows by hand."""

import pytest
import torch
from magic141.model_patches.window.flash import (
    GAINS,
    LEAST_CONTRAST,
    QUANTILES,
    brightness_change,
    change,
    gain_of,
    measure_flash,
    quantiles,
)
from torch import Tensor

RAMP = torch.linspace(0.1, 0.6, 64 * 64).reshape(64, 64)


def frames_of(*lumas: Tensor) -> Tensor:
    return torch.stack(lumas)[..., None].expand(-1, -1, -1, 3)


def test_quantiles_are_evenly_spaced_from_the_darkest_to_the_brightest():
    shuffled = RAMP.flatten()[torch.randperm(64 * 64, generator=torch.Generator().manual_seed(0))]
    found = quantiles(shuffled.reshape(64, 64))
    assert found.shape == (QUANTILES,)
    assert torch.allclose(found, torch.linspace(0.1, 0.6, QUANTILES), atol=1e-4)


@pytest.mark.parametrize("gain", [0.7, 0.95, 1.0, 1.1, 1.4])
def test_a_gain_is_told_whatever_its_sign(gain):
    assert brightness_change(RAMP, (gain * RAMP)[None]) == pytest.approx(gain - 1, abs=0.015)


def test_the_worst_frame_counts():
    after = torch.stack([RAMP, 0.8 * RAMP, 1.1 * RAMP])
    assert brightness_change(RAMP, after) == pytest.approx(-0.2, abs=0.015)


def test_what_is_saturated_does_not_hide_the_gain():
    bright = torch.linspace(0.3, 0.9, 64 * 64).reshape(64, 64)
    assert brightness_change(bright, (1.3 * bright).clamp(max=1)[None]) == pytest.approx(0.3, abs=0.02)


def test_a_gain_must_explain_more_pixels_than_none_does():
    """A row for each gain; a tenth of the pixels agree with none, and one pixel in 200 more with another gain."""
    tried = torch.ones(len(GAINS), 1000)
    found = torch.zeros(1000)
    tried[len(GAINS) // 2, :100] = 0
    tried[150, :105] = 0
    assert gain_of(tried, found) == 1.0
    tried[150, :120] = 0
    assert gain_of(tried, found) == pytest.approx(float(GAINS[150]))
    tried[160, :120] = 0
    assert gain_of(tried, found) == pytest.approx(float(GAINS[150] + GAINS[160]) / 2), "the mean of the best"


def test_a_change_is_a_share_of_what_was_there():
    assert change(0.5, 0.6, least=0.05) == pytest.approx(0.2)
    assert change(0.01, 0.06, least=0.05) == pytest.approx(1.0)


def test_only_the_frames_beside_the_seam_count():
    before = frames_of(0.2 * RAMP, *[RAMP] * 3)
    after = frames_of(*[RAMP] * 3, 0.2 * RAMP)
    assert measure_flash(before, after) == {
        "flash_brightness": 0.0,
        "flash_contrast": pytest.approx(0, abs=1e-5),
        "flash_sharpness": pytest.approx(0, abs=1e-5),
    }
    late = measure_flash(before, frames_of(RAMP, RAMP, 0.8 * RAMP))
    assert late["flash_brightness"] == pytest.approx(-0.2, abs=0.015)


def test_contrast_and_sharpness_are_told_as_shares():
    gray = (RAMP - 0.35) / 2 + 0.35
    found = measure_flash(frames_of(RAMP), frames_of(gray))
    assert found["flash_contrast"] == pytest.approx(-0.5, abs=1e-3)
    plain = torch.full((64, 64), 0.5)
    spread = plain + LEAST_CONTRAST * torch.sign(torch.arange(64) - 31.5)
    assert measure_flash(frames_of(plain), frames_of(spread))["flash_contrast"] == pytest.approx(
        1.0, abs=1e-3
    )
    lines = plain + 0.1 * (torch.arange(64) % 2)
    double = plain + 0.2 * (torch.arange(64) % 2)
    assert measure_flash(frames_of(lines), frames_of(double))["flash_sharpness"] == pytest.approx(
        1.0, abs=1e-3
    )


def test_two_levels_of_255_count_as_the_same_brightness():
    found = torch.zeros(1000)
    for levels, same in ((2, True), (2.02, False)):
        tried = torch.ones(len(GAINS), 1000)
        tried[120] = levels / 255
        assert (gain_of(tried, found) == pytest.approx(1.1)) is same


def test_changes_from_half_to_one_and_a_half_are_tried_in_steps_of_half_a_percent():
    assert GAINS.tolist() == pytest.approx([0.5 + 0.005 * step for step in range(201)])
    assert GAINS[100] == 1


@pytest.mark.parametrize(("alike", "gain"), [(109, 1.0), (111, 1.25)])
def test_a_gain_explains_at_least_a_hundredth_more_of_the_pixels(alike, gain):
    tried = torch.ones(len(GAINS), 1000)
    tried[100, :100] = 0
    tried[150, :alike] = 0
    assert gain_of(tried, torch.zeros(1000)) == pytest.approx(gain)


def test_of_plain_pictures_contrast_and_sharpness_are_told_against_the_least():
    plain = torch.full((64, 64), 0.5)
    sides = torch.sign(torch.arange(64) - 31.5).expand(64, 64)
    found = measure_flash(frames_of(plain + 0.01 * sides), frames_of(plain + 0.06 * sides))
    assert found["flash_contrast"] == pytest.approx(0.05 / 0.05, abs=1e-3)
    lines = frames_of(plain + 0.01 * (torch.arange(64) % 2))
    found = measure_flash(frames_of(plain), lines)
    assert found["flash_sharpness"] == pytest.approx(0.02 * 255, rel=1e-3)


def test_three_frames_on_either_side_are_compared():
    steady = frames_of(RAMP, RAMP, RAMP)
    for measure in ("flash_brightness", "flash_contrast", "flash_sharpness"):
        late = measure_flash(steady, torch.cat([steady, frames_of(0.8 * RAMP)]))
        early = measure_flash(torch.cat([frames_of(0.8 * RAMP), steady]), steady)
        assert (late[measure], early[measure]) == (0, 0)

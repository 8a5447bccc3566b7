"""Measures of frames whose values follow by hand."""

import math

import pytest
import torch
from magic141.model_patches.measures import (
    FLOW_SIDE_PX,
    MEASURED_FRAMES,
    MEASURED_SIDE_PX,
    STILL_STEP,
    luma_grid,
    mean_lab,
    motion_steps,
    sharpness,
    srgb_to_lab,
)
from magic141.tests.support.gray_frames import grays, lightness
from magic141.tests.support.measured import motion_of, seam_of
from torch import Tensor


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
    assert seam_of(before, after) == pytest.approx((0.2 + STILL_STEP) / (0.1 + STILL_STEP), rel=1e-4)
    uneven = grays(0.0, 0.3, 0.3, 0.3)
    assert seam_of(uneven, grays(0.3, 0.5)) == pytest.approx(1.0), "steps .3 0 0 .2, of which the median is 0"
    assert seam_of(grays(0.2), grays(0.5)) == pytest.approx(1.0), "no step beside it to compare with"


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
    right, down = motion_of(sliding(side / 64, side=side))
    assert (right, down) == pytest.approx((1 / 64, 1 / 64), rel=0.1)
    right, down = motion_of(sliding(side / 64, side=side, tall=2 * side))
    assert (right, down) == pytest.approx((1 / 64, 1 / 64), rel=0.1)


def test_fine_patterns_that_stand_still_do_not_hide_the_motion_of_a_large_picture():
    side = 4 * FLOW_SIDE_PX
    fine = 0.1 * torch.tensor([1.0, 1.0, -1.0, -1.0]).repeat(FLOW_SIDE_PX)
    frames = sliding(4, side=side) + fine[None, None, :, None] + fine[None, :, None, None]
    assert motion_of(frames) == pytest.approx((1 / 64, 1 / 64), rel=0.1)


def test_colors_beyond_black_and_white_count_as_these():
    beyond, inside = grays(-0.5, 1.5, -0.5), grays(0, 1, 0)
    assert torch.equal(luma_grid(beyond), luma_grid(inside))
    assert torch.equal(mean_lab(beyond), mean_lab(inside))
    assert sharpness(beyond) == sharpness(inside)


@pytest.mark.parametrize("name", ["mean_lab", "luma_grid", "sharpness"])
def test_transparency_and_the_precision_of_the_frames_change_nothing(name):
    from magic141.model_patches import measures

    frames = torch.rand(3, 8, 8, 3, generator=torch.Generator().manual_seed(0)).half()
    more = torch.cat([frames, torch.ones(3, 8, 8, 1).half()], dim=-1)
    measured = getattr(measures, name)
    torch.testing.assert_close(measured(more), measured(frames.float()))


def test_the_usual_step_beside_a_seam_is_told_without_the_step_across_it():
    before, after = grays(0.0, 0.1, 0.2), grays(0.9, 0.6, 0.4)
    usual = 0.1  # of .1 .1 .3 .2, the lower of the two in the middle
    assert seam_of(before, after) == pytest.approx((0.7 + STILL_STEP) / (usual + STILL_STEP), rel=1e-4)
    usual = 0.3  # of .4 .3 .3 .1; with the step across it were the same
    assert seam_of(grays(0.0, 0.4), grays(0.9, 0.6, 0.3, 0.2)) == pytest.approx(
        (0.5 + STILL_STEP) / (usual + STILL_STEP), rel=1e-4
    )
    assert seam_of(grays(0.3, 0.3), grays(0.3, 0.8)) == pytest.approx(1.0), "steps 0 and .5 beside it"


def test_the_numbers_that_measures_are_taken_with():
    """They are part of what a measure says, and the limits of complaints and verdicts are set for them."""
    assert (MEASURED_FRAMES, MEASURED_SIDE_PX, FLOW_SIDE_PX) == (8, 256, 64)
    assert STILL_STEP == 1 / 255


def test_pictures_of_three_pixels_have_a_motion():
    ramp = torch.linspace(0.1, 0.9, 3)[None, None, :, None].expand(2, 3, 3, 3).clone()
    ramp[1] -= 0.05
    right, down = motion_of(ramp)
    assert right == pytest.approx(0.05 / 0.4 / 3, rel=1e-4), "in sides of three pixels"
    assert down == pytest.approx(0, abs=1e-6)
    assert motion_of(grays(0.5, 0.5)) == (0, 0)
    wide = torch.rand(1, 512, 600, 3, generator=torch.Generator().manual_seed(0))
    assert luma_grid(wide).shape == luma_grid(wide.transpose(1, 2)).transpose(1, 2).shape == (1, 256, 300)


def test_grain_that_stands_still_hides_little_of_the_motion():
    """The pixels of a cell are averaged; one picked of each would keep the grain as it is."""
    side = 4 * FLOW_SIDE_PX
    grain = torch.sign(torch.randn(side, side, generator=torch.Generator().manual_seed(0)))
    frames = sliding(4, side=side) + 0.05 * grain[None, ..., None]
    assert motion_of(frames) == pytest.approx((1 / 64, 1 / 64), rel=0.1)

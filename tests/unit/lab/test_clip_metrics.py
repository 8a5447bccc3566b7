"""Measures of sets of clips, against values worked out by hand."""

import math

import pytest
import torch
from magic141.lab import world
from magic141.lab.world import clip_metrics
from magic141.lab.world.quality import is_ghost, judge_clips, trajectory_error_px


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_temporal_flickering_is_vbenchs():
    clip = torch.zeros(2, 3, 3, 4, 4)
    clip[0, 1] = 0.2  # 51 of 255, there and back
    assert clip_metrics.temporal_flickering(clip).tolist() == pytest.approx([(255 - 51) / 255, 1.0])


def test_sharpness_of_a_step_edge():
    frames = torch.zeros(1, 1, 3, 4, 6)
    frames[..., 3:] = 1.0
    # 2 of the 4 inner columns beside the edge have a Laplacian of 1, the others 0
    assert clip_metrics.laplacian_sharpness(frames).item() == pytest.approx(0.5)


def test_coverage_entropy():
    allowed = torch.tensor([True, False, True, True, False, True])
    even = torch.tensor([0, 2, 3, 5] * 50)
    assert clip_metrics.coverage_entropy(even, allowed) == pytest.approx(1.0, abs=0.01)
    assert clip_metrics.coverage_entropy(torch.zeros(100, dtype=torch.long), allowed) == 0.0
    halves = torch.tensor([0, 2] * 500)
    assert clip_metrics.coverage_entropy(halves, allowed) == pytest.approx(0.5, abs=0.01)
    assert math.isnan(clip_metrics.coverage_entropy(torch.tensor([1, 4]), allowed))
    wrong_too = torch.cat([even, torch.ones(500, dtype=torch.long)])
    assert clip_metrics.coverage_entropy(wrong_too, allowed) == pytest.approx(1.0, abs=0.01)


def test_bootstrap_interval_is_about_two_standard_errors():
    values = (torch.rand(400, generator=generator()) < 0.5).float()
    low, high = clip_metrics.bootstrap_interval(values, generator(1))
    assert low < values.mean() < high
    assert high - low == pytest.approx(4 * 0.5 / math.sqrt(400), rel=0.15)


@pytest.fixture(scope="module")
def scenes():
    return world.sample_scenes(24, generator=generator(3), second_share=0.0)


def named(scenes) -> torch.Tensor:
    return torch.nn.functional.one_hot(scenes.motion, 16).bool()


def test_the_truth_is_judged_perfect(scenes):
    judged = judge_clips(world.render_clip(scenes, 13), scenes, named(scenes))
    assert judged["clean_rate"].mean() == 1
    assert judged["motion_accuracy"].mean() == 1
    assert judged["ghost_share"].mean() == 0
    assert judged["trajectory_error_px"].max() < 0.5
    assert torch.allclose(judged["sharpness"], torch.ones(24))
    assert torch.equal(judged["motion"].long(), scenes.motion)


def test_an_average_of_two_futures_is_a_ghost(scenes):
    from dataclasses import replace

    other = replace(scenes, direction=(scenes.direction + 4) % 8, speed=torch.ones_like(scenes.speed))
    one = replace(scenes, speed=torch.ones_like(scenes.speed))
    average = (world.render_clip(one, 13) + world.render_clip(other, 13)) / 2
    assert is_ghost(average, scenes).float().mean() > 0.8
    background = torch.tensor(list(world.BACKGROUNDS.values()))[scenes.background]
    background_only = background[:, None, :, None, None].expand(-1, 13, -1, 64, 64) + 0.02
    assert not is_ghost(background_only, scenes).any()  # gone, not see-through


def test_trajectory_error_takes_the_nearest_allowed_future():
    right = torch.arange(5.0)[:, None] * torch.tensor([2.0, 0.0])
    tracks = torch.stack([right, right]) + 10
    allowed = torch.zeros(2, 16, dtype=torch.bool)
    allowed[0, [1, 9]] = True  # right fast, left fast
    allowed[1, 0] = True  # right slowly: 0, 1, 2, 3, 4 px behind
    assert trajectory_error_px(tracks, allowed).tolist() == pytest.approx([0.0, 2.0], abs=1e-5)

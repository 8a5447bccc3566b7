"""Every picture that is drawn, and the report of a training run."""

import pytest
import torch
from magic141.model_patches.bridge.training.report import motion_lines, training_report
from magic141.model_patches.plots import (
    BAR_COLORS,
    BARS_HEIGHT_PX,
    BARS_WIDTH_PX,
    DRIFT_PANEL_PX,
    DRIFT_WIDTH_PX,
    TRAINING_PANEL_PX,
    WIDTH_PX,
    frame_strips,
    plot_bars,
    plot_training,
    smoothed,
    stacked,
    to_tensor,
)
from magic141.model_patches.plots.quality import RADAR_PX, plot_quality
from magic141.model_patches.training.config import DistillConfig
from magic141.model_patches.training.distill import TrainedModel
from PIL import ImageColor


def test_a_panel_for_every_measure_that_was_taken():
    history = [
        {"step": step, "generator": 1.0 / step, "critic": 0.5, "motion": None} for step in range(1, 30)
    ]
    assert plot_training(history, total_steps=100).size == (WIDTH_PX, 2 * TRAINING_PANEL_PX)
    history[9] |= {"motion": 0.9}
    history[3] |= {"generator": float("nan")}
    assert plot_training(history, total_steps=100).size == (WIDTH_PX, 3 * TRAINING_PANEL_PX)
    assert plot_training([], total_steps=100).size == (WIDTH_PX, TRAINING_PANEL_PX)
    assert plot_training([{"step": 1, "loss": 2.0}], total_steps=1).size == (WIDTH_PX, TRAINING_PANEL_PX)


def test_smoothing_is_a_running_mean():
    assert smoothed([1.0, 2.0]) == [1.0, 2.0]
    assert smoothed([0.0, 3.0, 0.0, 3.0, 0.0]) == [1.5, 1.0, 2.0, 1.0, 1.5]


def test_strips_show_clips_as_rows_under_the_curves():
    clips = torch.zeros(2, 13, 64, 64, 3)
    clips[1, -1] = 1.0
    strips = frame_strips(clips)
    assert strips.size == (WIDTH_PX, WIDTH_PX * 2 // 5)
    picture = to_tensor(strips)[0]
    assert picture[-1, -1].tolist() == [1.0] * 3
    assert picture[0, -1].tolist() == [0.0] * 3
    sheet = stacked([plot_training([], total_steps=1), strips])
    assert sheet.size == (WIDTH_PX, TRAINING_PANEL_PX + strips.height)


def test_the_report_says_how_to_use_what_came_out():
    text = training_report(
        TrainedModel(DistillConfig(total_steps=8, few_steps=2), base={}, weights={}, step=8, notes=()),
        first_step=3,
        seconds=12.3,
        data="'shapes' (4 windows)",
        file="models/loras/a.safetensors",
        history=[{"step": 8, "motion": 0.9}],
    )
    assert text.splitlines() == [
        "Distilled to 2 steps (DMD2) on 'shapes' (4 windows): 8 of 8 updates of 16 clips, resumed at step 3, 12 s.",
        "Saved as models/loras/a.safetensors (LoRA, rank 32).",
        "Use it with 2 steps, shift 5, sampler euler, cfg 1.",
        "Motion at the end: 0.90 of the data's.",
    ]


@pytest.mark.parametrize(("motion", "warning"), [(0.1, "nearly static"), (1.0, None), (4.0, "flash or jump")])
def test_collapse_is_warned_of(motion, warning):
    lines = motion_lines([{"motion": motion}, {"motion": None}])
    assert len(lines) == 1 + (warning is not None)
    assert warning is None or warning in lines[1]
    assert motion_lines([{"loss": 1.0}]) == []


def ink(plot, color):
    return (plot[0] - torch.tensor(ImageColor.getrgb(color)) / 255).abs().sum(-1) < 0.02


def test_bars_are_as_high_as_their_values():
    plot = plot_bars({"double_blocks.0": 0.01, "single_blocks.0": 0.005}, title="Errors")
    assert plot.shape == (1, BARS_HEIGHT_PX, BARS_WIDTH_PX, 3)
    assert 0 <= plot.min() <= plot.max() <= 1
    high, low = (ink(plot, color).any(dim=1).sum() for color in BAR_COLORS)
    assert abs(int(high) - 2 * int(low)) <= 3


@pytest.mark.parametrize("bars", [{}, {"a": 0.0}, {f"single_blocks.{i}": 0.01 * i for i in range(200)}])
def test_odd_bars_still_draw(bars):
    assert plot_bars(bars, title="Errors").shape == (1, BARS_HEIGHT_PX, BARS_WIDTH_PX, 3)


def test_the_radar_and_curves_of_two_clips_show_both():
    curves = [{"motion": [1.0, 2.0], "sharpness": [0.1] * 3, "color_drift": [0.0] * 3}, {"sharpness": [0.2]}]
    spokes = {"flicker": [0.9, 0.1], "looks": [0.8, 0.2], "prompt fit": [None, 0.5]}
    image = plot_quality(spokes, curves, seconds=0.1)
    shape, pixels = image.shape, (image[0] * 255).round().to(torch.uint8).flatten(0, 1)
    assert shape == (1, RADAR_PX + 3 * DRIFT_PANEL_PX, DRIFT_WIDTH_PX, 3)
    for color in BAR_COLORS:
        assert (pixels == torch.tensor(ImageColor.getrgb(color), dtype=torch.uint8)).all(1).any()
    one_frame = plot_quality({}, [{"motion": [], "sharpness": [0.2], "color_drift": [0.0]}], seconds=0.1)
    assert one_frame.shape == (1, RADAR_PX, DRIFT_WIDTH_PX, 3)

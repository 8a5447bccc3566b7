"""The plot is a picture with higher bars for higher values."""

import pytest
import torch
from magic141.model_patches.bar_plot import BAR_COLOURS, HEIGHT, WIDTH, bar_plot


def ink(plot, colour):
    return (plot[0] - torch.tensor(colour) / 255).abs().sum(-1) < 0.02


def test_size_range_and_height_of_bars():
    plot = bar_plot({"double_blocks.0": 0.01, "single_blocks.0": 0.005}, title="Errors")
    assert plot.shape == (1, HEIGHT, WIDTH, 3)
    assert 0 <= plot.min() <= plot.max() <= 1
    high, low = (ink(plot, colour).any(dim=1).sum() for colour in BAR_COLOURS)
    assert abs(int(high) - 2 * int(low)) <= 3


@pytest.mark.parametrize("bars", [{}, {"a": 0.0}, {f"single_blocks.{i}": 0.01 * i for i in range(200)}])
def test_odd_inputs_still_draw(bars):
    assert bar_plot(bars, title="Errors").shape == (1, HEIGHT, WIDTH, 3)

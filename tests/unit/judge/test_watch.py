"""What is made of features and of motion, at values that can be counted by hand."""

import pytest
import torch
from magic141.model_patches.judge.watch import FlowWatcher, Likeness
from torch import nn


class Motion(nn.Module):
    """Say the motion that the second frame holds as its value."""

    def forward(self, one, other):
        return float(other.max())


def frames(*values: float, side: int = 256) -> torch.Tensor:
    return torch.tensor(values).view(-1, 1, 1, 1).expand(-1, 3, side, side).clone()


def test_likeness_to_the_frame_before_the_first_and_the_start_picture():
    east, north, west = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), torch.tensor([-1.0, 0.0])
    likeness = Likeness(start=north[None])
    likeness.add(torch.stack([east, east]))
    likeness.add(torch.stack([north, west]))
    assert likeness.to_last == [1, 0, 0]
    assert likeness.to_first == [1, 0, 0], "a likeness is not below 0"
    assert likeness.consistency() == pytest.approx(1 / 3)
    assert likeness.to_start_picture() == pytest.approx(0.4 * 1 + 0.3 / 3 + 0.3 * 0)


@pytest.mark.parametrize(("fast", "dynamic"), [(3, 0.0), (4, 1.0)])
def test_a_quarter_of_the_frames_must_move_fast(fast, dynamic):
    watcher = FlowWatcher(Motion(), fps=8)
    watcher.add(frames(*[6.1] * (fast + 1), *[5.9] * (15 - fast)))
    assert watcher.values()["dynamic_degree"] == dynamic


def test_motion_is_looked_at_eight_times_a_second_whatever_the_chunks():
    watchers = [FlowWatcher(Motion(), fps=24) for _ in range(2)]
    values = frames(*range(20))
    watchers[0].add(values)
    for chunk in values.split(7):
        watchers[1].add(chunk)
    assert watchers[0].steps == watchers[1].steps == [3, 6, 9, 12, 15, 18]


def test_what_counts_as_fast_grows_with_the_picture():
    watcher = FlowWatcher(Motion(), fps=8)
    watcher.add(frames(*[7.0] * 16, side=512))
    assert watcher.values() == {"dynamic_degree": 0.0, "flow_px": 7.0}
    assert FlowWatcher(Motion(), fps=8).values() == {}

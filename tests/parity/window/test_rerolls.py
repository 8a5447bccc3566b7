"""Windows that are made again: for their seam, and for a turn of the motion."""

import pytest
import torch
from magic141.tools.host import use_comfyui

use_comfyui()

from magic141.model_patches.window.run import Limits, times_over_limits, wanted_motion
from magic141.tests.support.tiny_windows import count_windows, frames_of, run


def test_a_bad_seam_is_made_again_and_the_best_kept(models, monkeypatch):
    made = count_windows(monkeypatch)
    outcome = run(models, reroll_threshold=1.0, prompts="a", length=2)
    assert made == [0, 1, 1, 1]
    assert outcome.report["windows"][1]["attempts"] == 3


def test_a_window_that_turned_is_made_again_but_not_one_that_begins_a_prompt(models, monkeypatch):
    made = count_windows(monkeypatch)
    outcome = run(models, turn_limit=0.01, prompts="a\nb\nb", length=3)
    assert made == [0, 1, 2, 2, 2]
    windows = outcome.report["windows"]
    assert ["turned_deg" in window["measures"] for window in windows] == [False, False, True]
    plain = run(models, prompts="a\nb\nb", length=3, run_name="p")
    turned = plain.report["windows"][2]["measures"]["turned_deg"]
    assert windows[2]["measures"]["turned_deg"] <= turned


def test_a_resumed_run_holds_the_same_motion(models, monkeypatch):
    whole = run(models, turn_limit=0.01, prompts="a")
    with monkeypatch.context() as patch:
        count_windows(patch, stop_at=2)
        with pytest.raises(KeyboardInterrupt):
            run(models, turn_limit=0.01, prompts="a", run_name="r")
    resumed = run(models, turn_limit=0.01, prompts="a", run_name="r")
    assert resumed.report["windows"][2]["measures"] == whole.report["windows"][2]["measures"]
    assert torch.equal(frames_of(resumed.video), frames_of(whole.video))


def test_the_motion_held_is_the_one_a_prompt_began_with():
    def finished(prompt: str, right: float) -> dict:
        return {"prompt": prompt, "measures": {"motion_right": right, "motion_down": 0.0}}

    windows = [finished("a", 0.1), finished("b", 0.2), finished("a", 0.3), finished("a", 0.4)]
    assert wanted_motion("a", windows) == (0.3, 0.0)
    assert wanted_motion("b", windows) is None
    assert wanted_motion("a", []) is None
    assert wanted_motion("a", [{"prompt": "a", "measures": {}}]) is None  # a first window of one frame


@pytest.mark.parametrize(
    ("limits", "times"),
    [
        ({}, 0.0),
        ({"reroll_threshold": 2.0}, 1.5),
        ({"reroll_threshold": 0.5}, 1.5),
        ({"turn_limit": 20.0}, 2.0),
        ({"turn_limit": 20.0, "reroll_threshold": 2.0}, 2.0),
    ],
)
def test_a_window_is_as_bad_as_its_worst_limit(limits, times):
    measures = {"seam_motion": 1 / 3, "turned_deg": 40.0}
    assert times_over_limits(measures, Limits(**limits)) == pytest.approx(times)
    assert times_over_limits({}, Limits(**limits)) <= 1

"""Windows that are made again: for their seam, and for a turn of the motion."""

from dataclasses import replace

import pytest
import torch
from magic141.tools.host import use_comfyui

use_comfyui()

from magic141.model_patches.bridge.window.loop import motion_to_hold, times_over_limit
from magic141.model_patches.bridge.window.run import run_windows
from magic141.tests.support.tiny_windows import REQUEST, SETTINGS, count_windows, frames_of


def test_a_bad_seam_is_made_again_and_the_best_kept(models, monkeypatch):
    made = count_windows(monkeypatch)
    settings = replace(SETTINGS, reroll_threshold=1.0, reroll_limit=2)
    outcome = run_windows(models, settings, replace(REQUEST, prompts="a", length=2))
    assert made == [0, 1, 1, 1]
    assert outcome.report["windows"][1]["attempts"] == 3


def test_a_window_that_turned_is_made_again_but_not_one_that_begins_a_prompt(models, monkeypatch):
    made = count_windows(monkeypatch)
    settings = replace(SETTINGS, turn_limit=0.01, reroll_limit=3)
    outcome = run_windows(models, settings, replace(REQUEST, prompts="a\nb\nb", length=3))
    assert made == [0, 1, 2, 2, 2, 2]
    windows = outcome.report["windows"]
    assert ["turned_deg" in window["measures"] for window in windows] == [False, False, True]
    plain = run_windows(models, SETTINGS, replace(REQUEST, prompts="a\nb\nb", length=3, run_name="p"))
    turned = plain.report["windows"][2]["measures"]["turned_deg"]
    assert windows[2]["measures"]["turned_deg"] <= turned


def test_a_resumed_run_holds_the_same_motion(models, monkeypatch):
    settings, request = replace(SETTINGS, turn_limit=0.01, reroll_limit=2), replace(REQUEST, prompts="a")
    whole = run_windows(models, settings, request)
    with monkeypatch.context() as patch:
        count_windows(patch, stop_at=2)
        with pytest.raises(KeyboardInterrupt):
            run_windows(models, settings, replace(request, run_name="r"))
    resumed = run_windows(models, settings, replace(request, run_name="r"))
    assert resumed.report["windows"][2]["measures"] == whole.report["windows"][2]["measures"]
    assert torch.equal(frames_of(resumed.video), frames_of(whole.video))


def test_the_motion_held_is_the_one_a_prompt_began_with():
    def finished(prompt: str, right: float) -> dict:
        return {"prompt": prompt, "measures": {"motion_right": right, "motion_down": 0.0}}

    windows = [finished("a", 0.1), finished("b", 0.2), finished("a", 0.3), finished("a", 0.4)]
    assert motion_to_hold("a", windows) == (0.3, 0.0)
    assert motion_to_hold("b", windows) is None
    assert motion_to_hold("a", []) is None
    assert motion_to_hold("a", [{"prompt": "a", "measures": {}}]) is None  # a first window of one frame


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
    assert times_over_limit(measures, replace(SETTINGS, **limits)) == pytest.approx(times)
    assert times_over_limit({}, replace(SETTINGS, **limits)) <= 1

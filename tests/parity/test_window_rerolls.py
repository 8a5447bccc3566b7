"""Windows that are made again: for their seam, and for a turn of the motion."""

from dataclasses import replace

import pytest
import torch
from magic141.tests.support.host import use_comfyui

use_comfyui()

import folder_paths  # noqa: E402
from magic141.model_patches.bridge import window_loop  # noqa: E402
from magic141.model_patches.bridge.window import WindowSettings  # noqa: E402
from magic141.model_patches.bridge.window_loop import motion_to_hold, times_over_limit  # noqa: E402
from magic141.model_patches.bridge.window_run import Request, run_windows  # noqa: E402
from magic141.model_patches.store.video_source import read_frames  # noqa: E402
from magic141.tests.support.tiny_run import tiny_models  # noqa: E402

SETTINGS = WindowSettings(width=16, height=16, window_latent=4, overlap_latent=1, steps=1, guidance=None)
REQUEST = Request(
    prompts="a",
    length=2,
    in_windows=True,
    fps=24,
    seed=5,
    run_name="t",
    codec="ffv1 lossless",
    image=torch.rand(1, 16, 16, 3, generator=torch.Generator().manual_seed(3)),
)


@pytest.fixture(scope="module")
def models():
    with torch.inference_mode():
        return tiny_models()


@pytest.fixture(autouse=True)
def output_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    with torch.inference_mode():
        yield tmp_path


@pytest.fixture
def made(monkeypatch):
    """The windows in the order they are made; ``stop_at`` stops at one as a cancel would."""
    original, windows = window_loop.make_window, Windows()

    def make_window(models, settings, window, **more):
        if window.index == windows.stop_at:
            raise InterruptedError
        windows.append(window.index)
        return original(models, settings, window, **more)

    monkeypatch.setattr(window_loop, "make_window", make_window)
    return windows


class Windows(list):
    stop_at = -1


def test_a_bad_seam_is_made_again_and_the_best_kept(models, made):
    settings = replace(SETTINGS, reroll_threshold=1.0, reroll_limit=2)
    outcome = run_windows(models, settings, REQUEST)
    assert made == [0, 1, 1, 1]
    assert outcome.report["windows"][1]["attempts"] == 3


def test_a_window_that_turned_is_made_again_but_not_one_that_begins_a_prompt(models, made):
    settings = replace(SETTINGS, turn_limit=0.01, reroll_limit=3)
    outcome = run_windows(models, settings, replace(REQUEST, prompts="a\nb\nb", length=3))
    assert made == [0, 1, 2, 2, 2, 2]
    windows = outcome.report["windows"]
    assert ["turned_deg" in window["measures"] for window in windows] == [False, False, True]
    plain = run_windows(models, SETTINGS, replace(REQUEST, prompts="a\nb\nb", length=3, run_name="p"))
    turned = plain.report["windows"][2]["measures"]["turned_deg"]
    assert windows[2]["measures"]["turned_deg"] <= turned


def test_a_resumed_run_holds_the_same_motion(models, made):
    settings, request = replace(SETTINGS, turn_limit=0.01, reroll_limit=2), replace(REQUEST, length=3)
    whole = run_windows(models, settings, request)
    made.stop_at = 2
    with pytest.raises(InterruptedError):
        run_windows(models, settings, replace(request, run_name="r"))
    made.stop_at = -1
    resumed = run_windows(models, settings, replace(request, run_name="r"))
    assert resumed.report["windows"][2]["measures"] == whole.report["windows"][2]["measures"]
    frames, wanted = (torch.stack(list(read_frames(run.video))) for run in (resumed, whole))
    assert torch.equal(frames, wanted)


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

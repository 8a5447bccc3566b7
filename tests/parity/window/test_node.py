"""The inputs of Sliding Window Extend: few, in groups, and spelled once."""

from dataclasses import fields

import pytest
from magic141.tools.host import use_comfyui

use_comfyui()

from comfy_api.latest import io
from magic141.model_patches.bridge.window.finished import FinishedVideos
from magic141.model_patches.window.settings import OF_ONE_WINDOW, WindowSettings
from magic141.nodes.limits import keep_limits
from magic141.nodes.sliding_window import SlidingWindowExtend
from magic141.nodes.sliding_window_inputs import OLD_CHOICES

INPUTS = SlidingWindowExtend.define_schema().inputs
WIDGETS = [each for each in INPUTS if isinstance(each, io.WidgetInput)]


def test_a_person_can_oversee_them():
    assert len(INPUTS) <= 29, "28, and the one that spares bringing the encoders back for every window"
    assert len([each for each in INPUTS if not each.advanced]) <= 14


def test_widgets_are_the_settings():
    assert [each.id for each in WIDGETS if each.id != "seed"] == [
        field.name for field in fields(WindowSettings) if field.name != "seed"
    ]
    assert {each.id for each in WIDGETS} == {field.name for field in fields(WindowSettings)}
    for widget in WIDGETS:
        assert widget.default is None or widget.default == getattr(WindowSettings(), widget.id)


def test_every_setting_counts_but_those_of_one_window():
    own = {
        *OF_ONE_WINDOW,
        "encoder_looks_at",
    }  # this one counts where it is not as in runs before there was a choice
    assert set(WindowSettings().of_every_window()) == {each.id for each in WIDGETS} - own


def test_a_choice_that_is_gone_stands_for_one_there_is():
    options = {each.id: each.options for each in WIDGETS if isinstance(each, io.Combo.Input)}
    for name, old in OLD_CHOICES.items():
        assert not set(old) & set(options[name])
        assert set(old.values()) <= set(options[name])


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"hand_over": "telepathy"}, "Choose auto, latent, pixel"),
        ({"negative_prompt": "\ud83d"}, "negative_prompt holds half a character"),
        ({"prompts": "[0-x] a"}, "cannot be read"),
        ({"prompts": "a" * 100_001}, "it takes 100000"),
        ({"window_length": 5, "overlap": 2}, "overlap is 2"),
    ],
)
def test_faults_are_said_before_the_run(inputs, message):
    assert message in keep_limits(SlidingWindowExtend).validate_inputs(**inputs)


def test_what_is_linked_or_old_passes():
    node = keep_limits(SlidingWindowExtend)
    assert node.validate_inputs(prompts=None, run_name=None, hand_over="mixed") is True


def test_a_video_that_is_gone_makes_its_run_count_as_changed(tmp_path):
    videos, path = FinishedVideos(), tmp_path / "v.mp4"
    path.write_bytes(b"")
    videos.add("a", path)
    assert (videos.times_lost("a"), videos.times_lost("b"), videos.times_lost(None)) == (0, 0, 0)
    path.unlink()
    assert (videos.times_lost("a"), videos.times_lost("b"), videos.times_lost(None)) == (1, 0, 1)
    assert videos.times_lost("a") == 1

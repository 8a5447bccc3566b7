"""What the vision encoder looks at, and when the encoders are needed."""

import pytest
from magic141.tools.host import use_comfyui

use_comfyui()

from magic141.model_patches.bridge.encoders.socket import Magic141Encoders
from magic141.model_patches.bridge.window.make import Models
from magic141.model_patches.window.settings import EACH_START, FIRST_PICTURE
from magic141.tests.support.tiny_run import HashedStates
from magic141.tests.support.tiny_windows import frames_of, run

PROMPTS = "one\ntwo\nthree"


class Noted(HashedStates):
    """Encoders that note what they are asked, and how many windows were finished then."""

    def __init__(self, finished) -> None:
        self.asked, self._finished = [], finished

    def prompt_states(self, prompt):
        self.asked.append((prompt, self._finished()))
        return super().prompt_states(prompt)

    def image_states(self, images):
        self.asked.append(("picture", self._finished()))
        return super().image_states(images)


def run_noted(models, folder, **changes):
    """Run with noted encoders; return what they were asked, and the frames."""
    noted = Noted(lambda: len(list(folder.rglob("windows/*.json"))))
    outcome = run(Models(models.model, Magic141Encoders(noted), models.vae), prompts=PROMPTS, **changes)
    return noted.asked, frames_of(outcome.video)


def test_all_prompts_are_encoded_before_the_first_window(models, output_folder):
    asked, _ = run_noted(models, output_folder)
    assert [(what, done) for what, done in asked if what != "picture"] == [
        ("one", 0),
        ("", 0),
        ("two", 0),
        ("three", 0),
    ]
    assert [done for what, done in asked if what == "picture"] == [0, 1, 2]


def test_encoders_that_look_at_the_first_picture_work_before_the_first_window_only(models, output_folder):
    asked, frames = run_noted(models, output_folder, encoder_looks_at=FIRST_PICTURE)
    assert all(done == 0 for _, done in asked)
    assert [what for what, _ in asked].count("picture") == 1
    _, followed = run_noted(models, output_folder, encoder_looks_at=EACH_START)
    assert (frames[:13] - followed[:13]).abs().max() == 0, "the first window sees the same picture"
    assert (frames[13:] - followed[13:]).abs().max() > 0


def test_a_run_that_goes_on_encodes_what_is_missing(models, output_folder, monkeypatch):
    from magic141.tests.support.tiny_windows import count_windows

    with monkeypatch.context() as patch:
        count_windows(patch, stop_at=2)
        with pytest.raises(KeyboardInterrupt):
            run(models, prompts=PROMPTS)
    asked, _ = run_noted(models, output_folder)
    assert [what for what, _ in asked] == ["picture", "three", ""]


def test_a_prompt_that_cannot_be_read_is_refused_before_the_first_window(models, output_folder):
    with pytest.raises(ValueError, match="prompt"):
        run(models, prompts="one\ntwo\n<image> three")
    assert not list(output_folder.rglob("windows/*.json"))

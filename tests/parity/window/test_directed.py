"""Single windows directed by lines of the prompts box: made again, gone back to, ended on a picture."""

from pathlib import Path

import pytest
import torch
from magic141.tools.host import use_comfyui

use_comfyui()

import folder_paths
from magic141.model_patches.bridge.window.graph_start import (
    SaveSettings,
    Settings,
    StartSettings,
    keys_of,
    plan,
)
from magic141.model_patches.store.pictures import to_image
from magic141.nodes.sliding_window import SlidingWindowExtend
from magic141.nodes.window_start import WindowStart
from magic141.tests.support.tiny_windows import IMAGE, count_windows, frames_of, run

STORY = "a\nb\nc"


@pytest.fixture
def picture(tmp_path, monkeypatch) -> Path:
    """Return a picture in a subfolder of the input folder."""
    path = tmp_path / "input" / "pictures" / "castle.png"
    path.parent.mkdir(parents=True)
    to_image(IMAGE[0].flip(0)).save(path)
    monkeypatch.setattr(folder_paths, "input_directory", str(tmp_path / "input"))
    return path


def test_a_seed_is_changed_and_changed_back(models, monkeypatch):
    first = frames_of(run(models).video)
    made = count_windows(monkeypatch)
    second = frames_of(run(models, prompts=f"{STORY}\n[window 2] seed 77").video)
    assert made == [1, 2]
    assert torch.equal(first[:13], second[:13])
    assert not torch.equal(first[13:25], second[13:25])
    assert torch.equal(frames_of(run(models).video), first)
    assert torch.equal(frames_of(run(models, prompts=f"{STORY}\n[window 2] seed 77").video), second)
    assert made == [1, 2]


def test_later_windows_are_kept_within_a_limit(models, monkeypatch):
    first = frames_of(run(models).video)
    made = count_windows(monkeypatch)
    outcome = run(models, prompts=f"{STORY}\n[window 2] seed 77\n[keep later] 1000")
    assert made == [1]
    assert torch.equal(frames_of(outcome.video)[25:], first[25:])
    assert outcome.report["num_kept"] == 2
    (said,) = [line for line in outcome.report["summary"] if "kept though" in line]
    assert f"{outcome.cards[2]['start_difference']:.2f} delta E" in said
    assert run(models, prompts=f"{STORY}\n[window 2] seed 77\n[keep later] 0").report["num_kept"] == 2
    assert made == [1, 2]


def test_a_window_ends_on_its_picture_as_on_the_one_of_the_socket(models, picture):
    one = {"prompts": "a", "length": 1}
    by_line = run(models, **one | {"prompts": "a\n[window 1] end pictures/castle.png"}, run_name="line")
    by_socket = run(models, **one, end_image=to_rounded(IMAGE.flip(1)), run_name="socket")
    plain = run(models, **one, run_name="plain")
    assert torch.equal(frames_of(by_line.video), frames_of(by_socket.video))
    assert not torch.equal(frames_of(by_line.video), frames_of(plain.video))
    assert by_line.cards[0]["end"] == "pictures/castle.png"


def to_rounded(image: torch.Tensor) -> torch.Tensor:
    return image.mul(255).round() / 255


def test_another_picture_of_the_same_name_makes_its_window_again(models, picture, monkeypatch):
    prompts = f"{STORY}\n[window 2] end pictures/castle.png"
    run(models, prompts=prompts)
    made = count_windows(monkeypatch)
    run(models, prompts=prompts)
    assert made == []
    to_image(IMAGE[0].flip(1)).save(picture)
    run(models, prompts=prompts)
    assert made == [1, 2]


def test_two_pictures_for_the_last_window_are_refused(models, picture, monkeypatch):
    made = count_windows(monkeypatch)
    with pytest.raises(
        ValueError, match=r"line 4 gives the last window an end picture, and end_image is conn"
    ):
        run(models, prompts=f"{STORY}\n[window 3] end pictures/castle.png", end_image=IMAGE)
    picture.write_bytes(b"no picture")
    with pytest.raises(
        ValueError, match=r"line 4 names the picture 'pictures/castle.png', which cannot be used"
    ):
        run(models, prompts=f"{STORY}\n[window 2] end pictures/castle.png")
    assert made == []


@pytest.mark.parametrize("name", ["gone.png", "../outside.png", "pictures", "linked.png", "\0", "a" * 300])
@pytest.mark.parametrize("node", [SlidingWindowExtend, WindowStart])
def test_a_picture_that_is_not_in_the_input_folder_is_said_before_the_run(picture, name, node):
    outside = picture.parents[2] / "outside.png"
    outside.write_bytes(picture.read_bytes())
    (picture.parents[1] / "linked.png").symlink_to(outside)
    try:
        said = node.validate_inputs(prompts=f"a\n[window 2] end {name}")
    except ValueError as error:
        said = str(error)
    assert "line 2 names the picture" in str(said)
    assert node.validate_inputs(prompts="a\n[window 2] end pictures/castle.png") is True


def test_windows_of_a_graph_keep_the_keys_of_older_versions(tmp_path):
    start = StartSettings("a\nb", "", 3, "windows", 13, 5, 64, 64, 16.0, 7, "run")
    windows = plan(Settings(start, SaveSettings(), "g"), continues=False)
    keys = keys_of(tmp_path, {"graph": "g", "a": 1}, windows, "g")
    assert [key[:16] for key in keys] == ["38cfd54637e8bd96", "e7e290eae4faa559", "73600da4235bb174"]
    ending = keys_of(tmp_path, {"graph": "g", "a": 1}, windows, "g", end_images={1: "x"})
    assert [one == other for one, other in zip(keys, ending, strict=True)] == [True, False, False]

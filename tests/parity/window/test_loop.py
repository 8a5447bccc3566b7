"""The loop over windows with random models: what is kept, resumed, redone and refused."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from magic141.tools.host import use_comfyui

use_comfyui()

import folder_paths
from comfy_api.latest import InputImpl
from magic141.model_patches.bridge.vae import decode_frames
from magic141.model_patches.bridge.window.run import Caller
from magic141.model_patches.bridge.window.start import Sources, read_start
from magic141.model_patches.store.pictures import to_uint8
from magic141.model_patches.store.video_sink import VideoFormat, write_segment
from magic141.tests.support.tiny_windows import (
    IMAGE,
    SETTINGS,
    count_windows,
    frames_of,
    run,
)


@pytest.fixture(scope="module")
def whole_run(models, tmp_path_factory):
    """One run of three windows without interruption: its outcome and its frames."""
    folder = tmp_path_factory.mktemp("whole")
    before = folder_paths.output_directory
    folder_paths.output_directory = str(folder)
    try:
        with torch.inference_mode():
            outcome = run(models)
            return outcome, frames_of(outcome.video)
    finally:
        folder_paths.output_directory = before


def test_latent_hand_over_gives_one_unbroken_stream(whole_run, models):
    outcome, frames = whole_run
    assert frames.shape == (37, 16, 16, 3)
    assert outcome.tail["samples"].shape[2] == 8
    whole = decode_frames(models.vae, outcome.tail["samples"])[-4:]
    assert (whole - frames[-4:]).abs().max() < 2 / 255  # the tail lacks half a latent frame of context
    assert (outcome.last_frame - frames[-1:]).abs().max() == 0
    assert [w["num_new_frames"] for w in outcome.report["windows"]] == [13, 12, 12]


def test_a_stopped_run_goes_on_and_gives_the_same_frames(models, whole_run, monkeypatch, output_folder):
    with monkeypatch.context() as patch:
        assert count_windows(patch, stop_at=2) == []
        with pytest.raises(KeyboardInterrupt):
            run(models)
    part = list(output_folder.rglob("unfinished_*.mkv"))
    assert len(part) == 1
    assert frames_of(part[0]).shape[0] == 25, "what was finished is a video"
    made = count_windows(monkeypatch)
    outcome = run(models)
    assert made == [2]
    assert not part[0].exists(), "the whole video takes its place"
    assert torch.equal(frames_of(outcome.video), whole_run[1])
    assert torch.equal(outcome.tail["samples"], whole_run[0].tail["samples"])
    assert "2 of 3 windows were finished by an earlier run." in outcome.report["summary"]


def test_a_changed_prompt_redoes_its_window_and_later_ones(models, whole_run, monkeypatch):
    run(models)
    made = count_windows(monkeypatch)
    outcome = run(models, prompts="a\nB\nc")
    assert made == [1, 2]
    frames = frames_of(outcome.video)
    assert torch.equal(frames[:13], whole_run[1][:13])
    assert not torch.equal(frames[13:], whole_run[1][13:])
    assert any("Window 2 and later are made again" in line for line in outcome.report["summary"])


def test_a_damaged_segment_is_said_and_made_again(models, whole_run, monkeypatch, output_folder):
    outcome = run(models)
    segment = outcome.video.parent / "segments" / "0001.mkv"
    segment.write_bytes(segment.read_bytes()[:-10])
    made = count_windows(monkeypatch)
    again = run(models)
    assert made == [1, 2]
    assert any("0001.mkv is damaged" in line for line in again.report["summary"])
    assert torch.equal(frames_of(again.video), whole_run[1])


def test_a_longer_run_keeps_a_last_window_that_was_whole(models, whole_run, monkeypatch):
    run(models, prompts="a\nb", length=2)
    made = count_windows(monkeypatch)
    outcome = run(models)
    assert made == [2]
    assert torch.equal(frames_of(outcome.video), whole_run[1])


@pytest.mark.parametrize("overlap", [1, 3])
def test_pixel_hand_over_keeps_count_of_frames(models, overlap):
    outcome = run(models, hand_over="pixel", overlap=overlap, prompts="a", length=2)
    assert frames_of(outcome.video).shape[0] == 13 + 4 * (4 - overlap)


def test_color_anchor_leaves_the_first_window_alone(models, whole_run):
    frames = frames_of(run(models, color_anchor=1.0, prompts="a\nb", length=2).video)
    assert torch.equal(frames[:13], whole_run[1][:13])
    assert not torch.equal(frames[13:], whole_run[1][13:25])


def test_a_resumed_run_is_anchored_to_the_same_first_window(models, monkeypatch):
    whole = run(models, color_anchor=1.0, run_name="w")
    with monkeypatch.context() as patch:
        count_windows(patch, stop_at=1)
        with pytest.raises(KeyboardInterrupt):
            run(models, color_anchor=1.0)
    assert torch.equal(frames_of(run(models, color_anchor=1.0).video), frames_of(whole.video))


def test_an_end_image_shortens_the_last_window_to_end_on_it(models):
    outcome = run(models, prompts="a", length=0.75, length_in="seconds", end_image=IMAGE.flip(1))
    assert frames_of(outcome.video).shape[0] == 17


def video_file(path: Path, count: int, fps: float = 24) -> InputImpl.VideoFromFile:
    frames = torch.rand(count, 16, 16, 3, generator=torch.Generator().manual_seed(9))
    write_segment(path, frames, VideoFormat("ffv1 lossless", fps, 16, 16))
    return InputImpl.VideoFromFile(str(path))


def test_a_continued_video_is_the_beginning_of_the_result(models, output_folder):
    source = video_file(output_folder / "source.mkv", 20)
    outcome = run(models, image=None, video=source, prompts="a", length=2)
    frames = frames_of(outcome.video)
    assert torch.equal(frames[:20], frames_of(output_folder / "source.mkv"))
    assert frames.shape[0] == 20 + 24
    assert "seam_motion" in outcome.report["windows"][0]["measures"]


def test_a_damaged_copy_of_the_continued_video_is_made_again(models, output_folder):
    source = video_file(output_folder / "source.mkv", 20)
    changes = {"image": None, "video": source, "prompts": "a", "length": 1}
    copy = run(models, **changes).video.parent / "segments" / "source.mkv"
    content = copy.read_bytes()
    copy.write_bytes(content[:-500] + bytes(500))
    again = run(models, **changes)
    assert any("source.mkv is damaged" in line for line in again.report["summary"])
    assert torch.equal(frames_of(again.video)[:20], frames_of(output_folder / "source.mkv"))


def test_pixel_hand_over_goes_on_from_the_frames_of_the_video(models, output_folder):
    """Latents that were made window by window as clips of their own do not decode to them as one clip."""
    two = run(models, hand_over="pixel", prompts="a", length=2)
    sources = Sources(video=InputImpl.VideoFromFile(str(two.video)), latent=two.tail["samples"])
    tail = read_start(models.vae, replace(SETTINGS, hand_over="pixel"), sources).begin.tail
    assert tail is not None
    assert torch.equal(tail.frames[-1:], to_uint8(two.last_frame))


def test_going_on_from_video_and_tail_equals_one_longer_run(models, whole_run):
    two = run(models, prompts="a", length=2)
    video = InputImpl.VideoFromFile(str(two.video))
    more = run(
        models, image=None, video=video, latent=two.tail["samples"], prompts="a", length=1, run_name="more"
    )
    frames = frames_of(more.video)
    assert frames.shape[0] == 25 + 12
    assert torch.equal(frames[:25], frames_of(two.video))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"overlap": 4}, "overlap is 4 latent frames and the window 4"),
        ({"prompts": "a\nb\nc\nd"}, "4 prompt lines for 3 windows"),
        ({"image": None}, "Nothing to start from"),
        ({"latent": torch.zeros(1, 16, 2, 2, 2)}, "not both"),
        ({"overlap": 3, "image": None, "latent": torch.zeros(1, 16, 2, 2, 2)}, "Set overlap to 2"),
        ({"run_name": "../x"}, "cannot be the name of a run"),
        ({"image": IMAGE.repeat(2, 1, 1, 1)}, "holds 2 pictures; it takes one"),
        ({"end_image": IMAGE.repeat(2, 1, 1, 1)}, "end_image holds 2 pictures"),
        ({"image": None, "latent": torch.zeros(1, 128, 2, 2, 2)}, "one clip of a HunyuanVideo VAE"),
        ({"color_anchor": float("nan")}, "color_anchor is nan"),
    ],
)
def test_bad_input_is_said(models, changes, message, monkeypatch):
    made = count_windows(monkeypatch)
    with pytest.raises(ValueError, match=message):
        run(models, **changes)
    assert made == [], "said before the first window, not after hours"


def test_a_bad_video_is_said(models, output_folder):
    changes = {"image": None, "prompts": "a"}
    (output_folder / "broken.mp4").write_bytes(b"nothing")
    broken = InputImpl.VideoFromFile(str(output_folder / "broken.mp4"))
    with pytest.raises(ValueError, match="cannot be read"):
        run(models, **changes, video=broken)
    fast, short = video_file(output_folder / "f.mkv", 20, fps=30), video_file(output_folder / "s.mkv", 5)
    with pytest.raises(ValueError, match="Set fps to 30"):
        run(models, **changes, video=fast)
    with pytest.raises(ValueError, match="Set overlap to 2 or give a longer video"):
        run(models, **changes, overlap=3, video=short)


def test_a_full_disk_keeps_finished_windows(models, monkeypatch, output_folder):
    from magic141.model_patches.store.disk import DiskRefused
    from magic141.model_patches.window import store as window_store

    original = window_store.write_segment

    def full_at_two(path, *rest):
        if path.stem == "0002":
            raise DiskRefused("The disk is full")
        return original(path, *rest)

    monkeypatch.setattr(window_store, "write_segment", full_at_two)
    with pytest.raises(DiskRefused):
        run(models)
    monkeypatch.undo()
    monkeypatch.setattr(folder_paths, "output_directory", str(output_folder))
    made = count_windows(monkeypatch)
    run(models)
    assert made == [2]


def test_a_model_whose_weights_cannot_be_read_makes_its_windows(models):
    """As GGUF loaders give them: quantized tensors that no plain operation takes."""

    class Quantized(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            if function.__name__ in ("float", "cpu", "numpy", "reshape", "flatten"):
                raise NotImplementedError("Cannot copy out of meta tensor")
            return super().__torch_function__(function, types, args, kwargs or {})

    network = models.model.model.diffusion_model
    network.register_buffer("quantized", torch.zeros(4).as_subclass(Quantized))
    try:
        outcome = run(models, prompts="a", length=1)
    finally:
        del network.quantized
    assert frames_of(outcome.video).shape[0] == 13


def test_other_models_are_another_run(models):
    first = run(models, Caller(models="one"), length=1, prompts="a").video.parent
    assert run(models, Caller(models="two"), length=1, prompts="a").video.parent != first
    assert run(models, Caller(models="one"), length=1, prompts="a").video.parent == first


@pytest.mark.parametrize(
    "changes", [{"steps": 2}, {"color_anchor": 0.5}, {"seed": 6}, {"codec": "h264"}, {"fps": 12.0}]
)
def test_other_settings_are_another_run(models, changes):
    first = run(models, length=1, prompts="a").video.parent
    assert run(models, length=1, prompts="a", **changes).video.parent != first

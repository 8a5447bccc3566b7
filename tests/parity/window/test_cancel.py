"""A cancel is heard while files are read, not only between windows."""

import comfy.model_management as management
import pytest
from comfy_api.latest import InputImpl
from magic141.model_patches.bridge.window import drift, start
from magic141.model_patches.bridge.window import run as window_run
from magic141.tests.support import tiny_windows
from magic141.tests.support.tiny_videos import write_video

FRAMES = 40


@pytest.fixture
def video(tmp_path):
    write_video(tmp_path / "long.mp4", num_frames=FRAMES, width=16, height=16, fps=24)
    return InputImpl.VideoFromFile(str(tmp_path / "long.mp4"))


def cancel_at(monkeypatch, module, number: int, *, reading: int = 1) -> list[int]:
    """Cancel when a module's ``read_frames`` has given ``number`` frames, of its n-th call; count what is read then."""
    original, calls, after = module.read_frames, [0], []

    def counting(*arguments, **options):
        calls[0] += 1
        mine = calls[0] == reading
        for count, frame in enumerate(original(*arguments, **options)):
            if mine and count == number:
                management.interrupt_current_processing(True)
            if mine and count > number:
                after.append(count)
            yield frame

    monkeypatch.setattr(module, "read_frames", counting)
    return after


def test_while_a_source_is_read(monkeypatch, models, video):
    after = cancel_at(monkeypatch, start, 3)
    with pytest.raises(management.InterruptProcessingException):
        tiny_windows.run(models, image=None, video=video, fps=24.0)
    assert after == []


def test_while_a_source_is_put_in_front(monkeypatch, models, video, output_folder):
    after = cancel_at(monkeypatch, window_run, 3)
    with pytest.raises(management.InterruptProcessingException):
        tiny_windows.run(models, image=None, video=video, fps=24.0)
    assert after == []
    assert not list(output_folder.rglob("source*"))


def test_while_drift_is_measured(monkeypatch, video):
    after = cancel_at(monkeypatch, drift, 3)
    with pytest.raises(management.InterruptProcessingException):
        drift.measure_video(video, report="", window_frames=FRAMES, features=None)
    assert after == []


def test_while_finished_windows_are_checked_and_joined(monkeypatch, models):
    tiny_windows.run(models)
    management.interrupt_current_processing(True)
    with pytest.raises(management.InterruptProcessingException):
        tiny_windows.run(models)
    assert tiny_windows.run(models).report["summary"][0].startswith("3 of 3 windows")

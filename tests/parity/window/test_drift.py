"""What Drift Report measures: which frames, window by window, one window in memory at a time."""

import json

import pytest
import torch
from magic141.tools.host import use_comfyui

use_comfyui()

from comfy_api.latest import InputImpl
from magic141.model_patches.bridge.window import drift
from magic141.model_patches.store.video_sink import VideoFormat, write_segment


@pytest.fixture
def video(tmp_path):
    """60 frames: 36 of a dark scene, then 24 of a bright one."""
    frames = torch.full((60, 16, 16, 3), 0.2)
    frames[36:] = 0.8
    write_segment(tmp_path / "v.mkv", frames, VideoFormat("ffv1 lossless", 24, 16, 16))
    return InputImpl.VideoFromFile(str(tmp_path / "v.mkv"))


def continued(source_frames: int, *starts: int) -> str:
    """Return the report of a run that continued a video by windows of four frames."""
    windows = [{"start_frame": start, "num_new_frames": 4} for start in starts]
    return json.dumps({"settings": {"source_frames": source_frames}, "windows": windows})


def test_any_video_is_cut_into_windows_of_one_length(video):
    measured = drift.measure_video(video, report="", window_frames=24, features=None)["windows"]
    assert [window["start_frame"] for window in measured] == [0, 24, 48]
    assert measured[2]["color_shift"] > 20


def test_a_continued_video_is_measured_from_where_the_run_went_on(video, monkeypatch):
    """Its beginning may be another scene, and too long to hold at once."""
    held = []
    original = drift.measure_window
    monkeypatch.setattr(
        drift, "measure_window", lambda frames, **given: held.append(len(frames)) or original(frames, **given)
    )
    report = continued(52, 0, 4)
    measured = drift.measure_video(video, report=report, window_frames=24, features=None)
    assert [window["start_frame"] for window in measured["windows"]] == [48, 52, 56]
    assert max(held) == 4
    assert measured["drift"]["color_shift_max"] < 0.1


def test_what_is_no_report_is_said(video):
    with pytest.raises(ValueError, match="not the report of Sliding Window Extend"):
        drift.measure_video(video, report="[1]", window_frames=24, features=None)

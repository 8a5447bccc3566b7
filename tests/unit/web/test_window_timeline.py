"""What a finished run tells the timeline on the node."""

from magic141.model_patches.window.report import timeline


def test_windows_start_where_they_do_in_the_whole_video():
    windows = [{"start_frame": 0, "measures": {"color_shift": 0.0}}, {"start_frame": 48, "measures": {}}]
    drawn = timeline({"settings": {"source_frames": 24}, "windows": windows}, fps=24.0)
    assert [window["start_s"] for window in drawn] == [1.0, 3.0]
    assert drawn[0]["measures"] == {"color_shift": 0.0}

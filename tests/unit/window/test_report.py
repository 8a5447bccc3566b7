"""The report of a run of windows and its plot."""

import json

from magic141.model_patches.plots import DRIFT_PANEL_PX, DRIFT_WIDTH_PX, plot_drift
from magic141.model_patches.window.report import build_report, first_measured_frame, report_text, seam_frames

MEASURES = {"color_shift": 0.0, "brightness": 0.4, "sharpness": 0.02, "motion": 0.01}


def facts(index: int, start: int, count: int, **measures: float) -> dict:
    return {
        "start_frame": start,
        "num_new_frames": count,
        "seconds": 1.5,
        "attempts": 1 + index,
        "measures": {**MEASURES, **measures},
    }


def report(source_frames: int = 0) -> dict:
    windows = [
        facts(0, 0, 13),
        facts(1, 13, 12, color_shift=3.0, seam_motion=4.0, seam_color_shift=1.0, turned_deg=41.0),
    ]
    settings = {"source_frames": source_frames}
    return build_report(
        windows, settings=settings, notes=["1 of 2 was resumed."], num_windows=2, video="a.mp4"
    )


def test_the_summary_says_what_happened():
    lines = report()["summary"]
    assert lines[0] == "2 of 2 windows, 25 new frames, 3 s of work, 1 of them made again."
    assert "3.0 delta E" in lines[1]
    assert lines[2] == "The motion turned by up to 41 degrees while a prompt lasted."
    assert lines[3].startswith("0 % of the seams")
    assert lines[-1] == "1 of 2 was resumed."


def test_seams_count_from_the_start_of_the_whole_video():
    assert seam_frames(json.loads(report_text(report()))) == [13]
    assert seam_frames(report(source_frames=20)) == [20, 33]


def test_of_a_long_continued_video_only_its_end_is_measured():
    assert first_measured_frame(report()) == 0
    assert first_measured_frame(report(source_frames=10)) == 0
    assert first_measured_frame(report(source_frames=100_000)) == 100_000 - 13


def test_nothing_finished_has_a_report():
    empty = build_report([], settings={}, notes=[], num_windows=3, video="")
    assert empty["summary"] == ["0 of 3 windows, 0 new frames, 0 s of work."]
    assert seam_frames(empty) == []


def test_the_plot_has_a_panel_for_every_measure_there_is():
    plot = plot_drift([window["measures"] for window in report()["windows"]])
    assert plot.shape == (1, 6 * DRIFT_PANEL_PX, DRIFT_WIDTH_PX, 3)
    assert 0 <= plot.min() < plot.max() <= 1
    assert plot_drift([]).shape == (1, DRIFT_PANEL_PX, DRIFT_WIDTH_PX, 3)
    assert plot_drift([MEASURES]).shape[1] == 3 * DRIFT_PANEL_PX

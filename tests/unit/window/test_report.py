"""The report of a run of windows and its plot."""

import json

import pytest
import torch
from magic141.model_patches.plots import DRIFT_PANEL_PX, DRIFT_WIDTH_PX
from magic141.model_patches.plots.drift import plot_drift
from magic141.model_patches.window.report import (
    build_report,
    first_measured_frame,
    report_text,
    seam_frames,
    verdict,
)

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


def steady_windows(count: int = 4) -> list[dict[str, float]]:
    return [
        {"color_shift": 0.4, "brightness": 0.5, "sharpness": 0.02, "seam_motion": 1.1, "turned_deg": 5.0}
        for _ in range(count)
    ]


def test_a_thousandth_is_steady_and_drawn_flat():
    windows = steady_windows()
    windows[2]["brightness"] += 0.001
    assert verdict(windows) == ["Steady: every measure of every window stays in its band."]
    flat, bumped = plot_drift(steady_windows()), plot_drift(windows)
    assert (flat != bumped).any(-1).float().mean() < 1e-3


@pytest.mark.parametrize(
    ("measure", "value", "said"),
    [
        ("color_shift", 5.0, "color_anchor"),
        ("brightness", 0.4, "color_anchor"),
        ("sharpness", 0.01, "another seed"),
        ("seam_motion", 3.0, "made again"),
        ("turned_deg", 120.0, "turn_limit"),
    ],
)
def test_a_window_outside_its_band_is_named_with_what_to_do(measure, value, said):
    windows = steady_windows()
    windows[1][measure] = value
    (line,) = verdict(windows)
    assert line.startswith("Window 2: ")
    assert said in line


def test_the_verdict_stands_above_the_panels():
    windows = steady_windows()
    plain, headed = plot_drift(windows), plot_drift(windows, verdict(windows))
    added = headed.shape[1] - plain.shape[1]
    assert added > 0
    assert torch.equal(headed[:, added:], plain)
    assert headed[:, :added].min() < 0.5


def test_no_windows_have_no_verdict():
    assert verdict([]) == []


def test_a_report_without_an_earlier_video_counts_from_its_own_first_frame():
    made = report() | {"settings": {}}
    assert seam_frames(made) == seam_frames(report(0))
    assert first_measured_frame(made) == 0

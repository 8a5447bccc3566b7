"""What a report says, word by word, and which facts from a disk it refuses."""

import pytest
from magic141.model_patches.window.report import (
    LARGEST,
    build_report,
    check_facts,
    drift_lines,
    headline,
    report_text,
)

SUMMARY = {"color_shift_last": 3.04, "brightness_change": -0.051, "sharpness_kept": 0.876}
FACTS = {
    "index": 4,
    "seed": 2**64 - 1,
    "attempts": 1,
    "start_frame": 0,
    "num_new_frames": 12,
    "seconds": 1.5,
    "prompt": "",
    "measures": {"color_shift": 0.0, "brightness": 0.5, "sharpness": 0.1},
}


def test_a_drift_is_said_in_sentences():
    assert drift_lines({}) == []
    assert drift_lines(SUMMARY) == [
        "Color at the end is 3.0 delta E from the first window; brightness changed by -5.1 %, sharpness is 88 % of it."
    ]
    seams = {"turned_max_deg": 40.6, "seams_ok_share": 0.75, "seam_worst": 2.34}
    assert drift_lines(SUMMARY | seams)[1:] == [
        "The motion turned by up to 41 degrees while a prompt lasted.",
        "75 % of the seams are within twice the motion beside them; the worst is 2.3 times off.",
    ]


def test_windows_that_were_made_again_are_counted():
    windows = [FACTS | {"attempts": attempts, "seconds": 10.0} for attempts in (1, 3, 2)]
    assert headline(windows, 5) == "3 of 5 windows, 36 new frames, 30 s of work, 3 of them made again."
    assert headline(windows[:1], 5) == "1 of 5 windows, 12 new frames, 10 s of work."


def test_a_report_holds_what_it_was_given():
    report = build_report([FACTS], settings={"a": 1}, notes=["said"], num_windows=1, video="v.mp4")
    assert report["video"] == "v.mp4"
    assert report["settings"] == {"a": 1}
    assert report["windows"] == [FACTS]
    assert report["drift"]["color_shift_last"] == 0
    assert report["summary"][-1] == "said"
    assert '\n "video": "v.mp4"' in report_text(report)
    assert "\u00e9" in report_text({"prompt": "\u00e9"})


def test_facts_as_they_are_written_are_taken():
    check_facts(FACTS, 4)
    check_facts(
        FACTS | {"seconds": 0, "start_frame": 5, "measures": FACTS["measures"] | {"motion": -LARGEST * 0.99}},
        4,
    )


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        *(
            ({name: value}, name)
            for name in ("seed", "attempts", "start_frame", "num_new_frames")
            for value in (-1, 2**64, 1.0, True, None, "1")
        ),
        ({"index": 5}, "index"),
        ({"index": None}, "index"),
        ({"measures": None}, "measures"),
        ({"measures": {"color_shift": 0.0, "brightness": 0.5}}, "measures"),
        ({"measures": FACTS["measures"] | {"motion": LARGEST}}, "a number"),
        ({"measures": FACTS["measures"] | {"motion": float("nan")}}, "a number"),
        ({"measures": FACTS["measures"] | {"motion": "1"}}, "a number"),
        ({"measures": FACTS["measures"] | {"motion": True}}, "a number"),
        ({"seconds": None}, "a number"),
        ({"seconds": -LARGEST}, "a number"),
        ({"prompt": None}, "prompt"),
    ],
)
def test_facts_of_another_kind_are_refused_by_name(changes, wrong):
    with pytest.raises(ValueError, match=f"^its facts are damaged: {wrong}$"):
        check_facts(FACTS | changes, 4)
    with pytest.raises(ValueError, match="its facts are damaged: index"):
        check_facts({}, 4)

"""What a table says."""

import json
import math

import pytest
from magic141.model_patches.judge.catalog import MEASURES, MODEL_FILES, TABLE_1
from magic141.model_patches.judge.folder_report import FEW_CLIPS, FolderResult, folder_text
from magic141.model_patches.judge.report import (
    Judgment,
    radar,
    report_json,
    report_text,
    standout,
    table_1_mean,
)


def judgment(**values: float) -> Judgment:
    return Judgment(48, 64, 32, 24.0, values={"motion": 1.0} | values)


def seven(value: float) -> dict[str, float]:
    return dict.fromkeys(TABLE_1, value)


def test_the_catalog_is_whole():
    assert {need for measure in MEASURES.values() for need in measure.needs} | {
        "inception",
        "videomae",
    } == set(MODEL_FILES)
    assert all(measure.better * (measure.best - measure.worst) >= 0 for measure in MEASURES.values())
    assert all(file.name.lower().startswith(file.begins) for file in MODEL_FILES.values())


def test_the_mean_of_the_seven_is_given_only_when_all_are_there():
    assert table_1_mean(seven(0.5)) == 0.5
    text = report_text(judgment(**seven(0.5)))
    assert "mean of the first seven    0.5000" in text
    lacking = seven(0.5)
    del lacking["dynamic_degree"]
    assert table_1_mean(lacking) is None
    assert "mean of the first seven" not in report_text(judgment(**lacking))


def test_the_worst_fault_is_told_first():
    told = standout(judgment(worst_jump=4.0, sharpness_kept=0.1, color_drift=9.0))
    assert told.index("sharpness falls to 10 %") < told.index("colors move 9.0") < told.index("a jump")


def test_two_clips_are_compared_by_what_a_viewer_notices():
    a, b = (
        judgment(color_drift=1.0, temporal_flickering=0.99),
        judgment(color_drift=5.0, temporal_flickering=0.9901),
    )
    assert standout(a, b) == "A is better in color drift (1 to 5)."
    assert standout(b, a) == "B is better in color drift (5 to 1)."


def test_json_holds_numbers_alone():
    document = json.loads(report_json(judgment(start_psnr=math.inf), judgment()), parse_constant=pytest.fail)
    assert "start_psnr" not in document["a"]["values"]
    assert document["b"]["values"] == {"motion": 1.0}


def test_the_rim_of_the_radar_is_the_best():
    spokes = radar([judgment(color_drift=0.0, prompt_fit=10.0), judgment(color_drift=20.0)])
    assert spokes == {"prompt fit": [0.0, None], "color drift": [1.0, 0.0]}


def test_a_table_of_folders():
    rows = [
        {"key": "a.mp4 | 1", "values": seven(0.4)},
        {"key": "b.mp4 | 1", "values": seven(0.6), "missing": {"flow_px": "Put it."}},
    ]
    result = FolderResult(
        "teacher", rows, {"FID": {"value": 12.0, "plus_minus": 3.0}}, ["FVD is not measured."]
    )
    text = folder_text(
        [result, FolderResult("student", [{"key": "c.mp4 | 1", "values": {}, "error": "c.mp4 is damaged"}])]
    )
    header, _, teacher, student, *notes = text.splitlines()
    assert header.count("|") == teacher.count("|") == student.count("|")
    assert "| 2 | 0.5000 |" in teacher
    assert "12.00 ± 3.00" in teacher
    assert student.endswith("| - |")
    assert "teacher: 2 clips are few" in "\n".join(notes)
    assert {
        "FVD is not measured.",
        "teacher: Not measured in 1 of 2 clips: optical flow. Put it.",
        "student: c.mp4 is damaged",
    } <= set(notes)
    many = FolderResult("teacher", rows * FEW_CLIPS, result.distances)
    assert "few" not in folder_text([many])

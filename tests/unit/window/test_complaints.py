"""What artists complain about in chained clips is measured at the seam and said, and not where all is well."""

import pytest
import torch
from magic141.lab import world
from magic141.model_patches.measures import mean_lab
from magic141.model_patches.window.clips import known_difference
from magic141.model_patches.window.complaints import complaints, name_windows
from magic141.model_patches.window.flash import measure_flash
from magic141.model_patches.window.measure import measure_window
from magic141.model_patches.window.report import build_report

KNOWN, LENGTH = 5, 13


@pytest.fixture(scope="module")
def clip() -> torch.Tensor:
    """A moving picture rich in contrast, (T, H, W, 3)."""
    coarse = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(141))
    picture = (
        torch.nn.functional.interpolate(coarse, size=(64, 64), mode="bicubic").clamp(0, 1).movedim(1, -1)
        * 0.8
    )
    return torch.cat([picture.roll(2 * number, 2) for number in range(KNOWN + LENGTH)])


def facts(known: torch.Tensor, new: torch.Tensor, start: torch.Tensor | None = None) -> dict:
    measures = measure_window(new, reference_lab=mean_lab(known), before=known, start=start)
    return {"measures": measures | measure_flash(known, new)}


def test_a_window_that_goes_on_gives_no_cause(clip):
    assert complaints([facts(clip[:KNOWN], clip[KNOWN:], clip[:1])]) == []


def test_objects_that_move_on_give_no_cause():
    scenes = world.sample_scenes(100, generator=torch.Generator().manual_seed(5))
    clips = world.render_clip(scenes, KNOWN + LENGTH).movedim(2, -1)
    told = [line for clip in clips for line in complaints([facts(clip[:KNOWN], clip[KNOWN:], clip[:1])])]
    assert len(told) <= 2, told


def brighter(new):
    return (new * torch.tensor([1.08] * 3 + [1.0] * (len(new) - 3))[:, None, None, None]).clamp(0, 1)


def gray(new):
    share = torch.tensor([0.5] * 3 + [0.0] * (len(new) - 3))[:, None, None, None]
    return torch.lerp(new, new.mean(), share)


def blurred(new):
    small = torch.nn.functional.avg_pool2d(
        new.movedim(-1, 1), 9, stride=1, padding=4, count_include_pad=False
    )
    return small.movedim(1, -1)


def still(new):
    return new[:1].repeat(len(new), 1, 1, 1)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (brighter, "8 % brighter (a flash)"),
        (gray, "of their contrast (they go gray)"),
        (blurred, "of their sharpness"),
        (still, "the motion stops at the seam"),
    ],
)
def test_each_complaint_is_told_with_its_window(clip, change, told):
    well = facts(clip[:KNOWN], clip[KNOWN:])
    lines = complaints([well, facts(clip[:KNOWN], change(clip[KNOWN:]))])
    line = next(line for line in lines if told in line)
    assert line.startswith("Window 2: ")
    assert line.count(".") >= 2, "a remedy follows"


def test_a_start_of_motion_and_a_doubled_frame_are_told(clip):
    starts = facts(still(clip[:KNOWN]), clip[1 : 1 + LENGTH])
    assert any("the motion starts at the seam" in line for line in complaints([starts]))
    doubled = facts(clip[:KNOWN], clip[KNOWN - 1 :])
    assert any("a frame is doubled" in line for line in complaints([doubled]))


def test_a_way_back_to_the_start_picture_is_told(clip):
    back = facts(clip[4 : 4 + KNOWN], clip[: 4 + KNOWN - 1].flip(0), clip[:1])
    assert any(
        "goes back towards the start picture (100 % of the way)" in line for line in complaints([back])
    )


def test_known_frames_that_come_back_changed_are_told(clip):
    changed = {"measures": {"known_difference": known_difference(1 - clip, clip[:KNOWN])}}
    assert "does not begin with the frames it was given" in complaints([changed])[0]


def test_contrast_that_grows_is_told(clip):
    numbers = {"seconds": 1.0, "attempts": 1, "num_new_frames": LENGTH, "start_frame": 0}
    grown = ((clip[KNOWN:] - 0.5) * 1.3 + 0.5).clamp(0, 1)
    windows = [facts(clip[:KNOWN], new) | numbers for new in (clip[KNOWN:], grown)]
    report = build_report(windows, settings={}, notes=[], num_windows=2, video="")
    assert any("Contrast grew to 1" in line for line in report["summary"])


def test_many_windows_are_counted():
    assert name_windows([2]) == "Window 2"
    assert name_windows([2, 3]) == "Windows 2, 3"
    assert name_windows(list(range(2, 12))) == "Windows 2, 3, 4, 5, 6, 7 and 4 more"


@pytest.mark.parametrize(
    ("measure", "told", "not_told", "said"),
    [
        ("known_difference", 0.1, 0.099, "they differ by 10 %"),
        ("flash_brightness", 0.03, 0.0299, "3 % brighter (a flash)"),
        ("flash_brightness", -0.03, -0.0299, "3 % darker (a flash)"),
        ("flash_contrast", -0.2, -0.199, "lose 20 % of their contrast"),
        ("flash_contrast", -0.2, 0.9, "lose 20 % of their contrast"),
        ("flash_sharpness", -0.3, -0.299, "lose 30 % of their sharpness"),
        ("seam_motion", 0.25, 0.251, "it moves 0.2 times as much as beside it"),
        ("seam_motion", 0.0, 1.0, "it moves 0.0 times as much as beside it"),
        ("seam_pace", 3.0, 2.99, "the motion starts at the seam (3.0 times as fast"),
        ("seam_pace", 0.33, 0.34, "the motion stops at the seam (0.3 times as fast"),
        ("seam_pace", 0.0, 1.0, "the motion stops at the seam (0.0 times as fast"),
        ("returned", 0.5, 0.49, "back towards the start picture (50 % of the way)"),
    ],
)
def test_what_is_told_and_from_which_value_on(measure, told, not_told, said):
    (line,) = complaints([{"measures": {measure: not_told}}, {"measures": {measure: told}}])
    assert line.startswith("Window 2: ")
    assert said in line
    assert complaints([{"measures": {measure: not_told}}, {"measures": {}}]) == []


def test_the_worst_value_is_told_of_all_windows_that_have_one():
    lines = complaints([{"measures": {"flash_brightness": value}} for value in (0.05, -0.2, 0.0, 0.1)])
    assert lines[0].startswith("Windows 1, 2, 4: the first new frames are 20 % darker")


def test_six_windows_are_named_and_more_are_counted():
    assert name_windows([3]) == "Window 3"
    assert name_windows([1, 2, 3, 4, 5, 6]) == "Windows 1, 2, 3, 4, 5, 6"
    assert name_windows([1, 2, 3, 4, 5, 6, 9]) == "Windows 1, 2, 3, 4, 5, 6 and 1 more"

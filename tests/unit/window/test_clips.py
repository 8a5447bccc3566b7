"""Plan of the windows that a graph makes, and what is refused of what comes back."""

import pytest
import torch
from magic141.model_patches.window.clips import (
    ClipSizes,
    check_clip,
    check_speed,
    count_frames,
    in_range,
    known_difference,
    new_frames,
    plan_clips,
)


def plan(length: float, *, in_windows=True, continues=False, sizes=None, prompts="a"):
    sizes = sizes or ClipSizes(13, 1)
    frames = count_frames(sizes, length, in_windows=in_windows, fps=16, continues=continues)
    return plan_clips(sizes, frames, continues=continues, prompts=prompts, fps=16, seed=7)


def test_windows_follow_each_other_without_gap_or_overlap():
    windows = plan(4)
    assert [window.num_new_frames for window in windows] == [13, 12, 12, 12]
    assert [window.start_frame for window in windows] == [0, 13, 25, 37]
    assert [window.num_skipped for window in windows] == [0, 1, 1, 1]


def test_seconds_give_just_as_many_frames_and_the_last_window_is_cut():
    windows = plan(2.0, in_windows=False)
    assert sum(window.num_new_frames for window in windows) == 32
    assert [window.num_new_frames for window in windows] == [13, 12, 7]
    assert all(window.length == 13 for window in windows)


def test_a_shorter_video_than_a_window_is_one_window():
    assert [window.num_new_frames for window in plan(0.1, in_windows=False)] == [2]


def test_a_continued_video_knows_frames_from_its_first_window_on():
    windows = plan(2, continues=True, sizes=ClipSizes(13, 5, 2))
    assert [(window.num_known, window.num_skipped, window.num_new_frames) for window in windows] == [
        (5, 7, 6)
    ] * 2


def test_a_longer_video_keeps_the_windows_of_a_shorter_one():
    assert plan(4)[:3] == plan(3)


@pytest.mark.parametrize("sizes", [(13, 13, 0), (13, 1, 12), (2, 0, 0)])
def test_windows_that_add_nothing_are_refused(sizes):
    with pytest.raises(ValueError, match=r"nothing new|at least 1"):
        ClipSizes(*sizes)


def test_what_is_new_of_a_clip_follows_the_known_frames():
    clip = torch.arange(13.0)[:, None, None, None].expand(13, 4, 4, 3)
    clip = clip / 20
    assert torch.equal(new_frames(clip, plan(2)[1], clip[:1]), clip[1:])


def test_blended_windows_fade_over_the_known_frames_and_are_as_long():
    windows = plan(3, sizes=ClipSizes(13, 5, blend=3))
    assert [window.num_new_frames for window in windows] == [10, 8, 11]
    assert [window.num_held_back for window in windows] == [3, 3, 0]
    assert sum(window.num_new_frames for window in windows) == 13 + 8 + 8
    assert [window.start_frame for window in windows] == [0, 10, 18]
    known, came_back = torch.zeros(5, 4, 4, 3), torch.ones(13, 4, 4, 3)
    faded = new_frames(came_back, windows[1], known)[:, 0, 0, 0]
    assert faded.tolist() == pytest.approx([0.25, 0.5, 0.75] + [1.0] * 8)


@pytest.mark.parametrize("sizes", [(13, 1, 0, 2), (13, 5, 1, 2), (13, 9, 0, 4)])
def test_blends_that_do_not_fit_are_refused(sizes):
    with pytest.raises(ValueError, match="blend"):
        ClipSizes(*sizes)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (torch.zeros(12, 8, 8, 3), "12 frames; window_length is 13"),
        (torch.zeros(13, 8, 4, 3), "4x8 pixels; the video is 8x8"),
        (torch.full((13, 8, 8, 3), torch.nan), "no numbers"),
        (torch.zeros(8, 8, 3), "IMAGE batch"),
    ],
)
def test_clips_that_are_not_what_was_asked_for_are_refused(frames, message):
    with pytest.raises(ValueError, match=message):
        check_clip(frames, plan(2)[1], width=8, height=8)


def test_known_frames_that_came_back_changed_are_measured():
    known = torch.full((1, 8, 8, 3), 0.5)
    assert known_difference(known.repeat(13, 1, 1, 1), known) == 0
    assert known_difference(known.repeat(13, 1, 1, 1) + 0.2, known) == pytest.approx(0.2)


def test_every_clip_has_the_prompt_of_its_place():
    assert [window.prompt for window in plan(4, prompts="a\nb")] == ["a", "b", "b", "b"]
    assert [window.prompt for window in plan(3, prompts="[0-1] a\n[1-9] b")] == ["a", "b", "b"]


def test_new_frames_are_kept_between_black_and_white():
    clip = torch.linspace(-0.5, 1.5, 13)[:, None, None, None].expand(13, 4, 4, 3)
    made = new_frames(clip, plan(2)[1], clip[:1].clamp(0, 1))
    assert torch.equal(made, clip[1:].clamp(0, 1))
    inside = clip.clamp(0.1, 0.9)
    assert torch.equal(new_frames(inside, plan(2)[1], inside[:1]), inside[1:])


@pytest.mark.parametrize("fps", [16.0, 30.0])
def test_a_clip_of_another_speed_is_refused_with_both(fps):
    for found in (None, fps, fps * 1.0005, fps * 0.9995):
        check_speed(found, fps)
    for found in (fps * 1.0006, fps * 0.9994):
        with pytest.raises(
            ValueError, match=f"a video of {found:.6g} frames .* Start is {fps:g}. Set fps to {found:.6g}"
        ):
            check_speed(found, fps)


def test_what_adds_nothing_is_said_by_its_numbers():
    with pytest.raises(
        ValueError, match="window_length is 5 frames, known_frames 5, so a window would add nothing"
    ):
        ClipSizes(5, 5)
    with pytest.raises(
        ValueError, match="window_length is 9 frames, known_frames 5 and drop_new 4, so a window"
    ):
        ClipSizes(9, 5, 4)
    assert ClipSizes(9, 5, 3).num_new == 1
    assert ClipSizes(9, 4, blend=4).num_new == 5, "as many as are known, and fewer than are new"


@pytest.mark.parametrize(("length", "frames"), [(0.1, 13), (1, 13), (1.4, 13), (2, 25), (0, 13)])
def test_a_length_in_windows_is_rounded_and_at_least_one(length, frames):
    assert count_frames(ClipSizes(13, 1), length, in_windows=True, fps=16, continues=False) == frames
    assert count_frames(ClipSizes(13, 1), length, in_windows=True, fps=16, continues=True) == frames - 1


def test_a_length_in_seconds_is_at_least_a_frame():
    assert count_frames(ClipSizes(13, 1), 0, in_windows=False, fps=16, continues=False) == 1
    assert [window.num_new_frames for window in plan(0.01, in_windows=False)] == [1]


def test_every_clip_has_its_number_and_a_seed_of_its_own():
    windows = plan(3)
    assert [window.index for window in windows] == [0, 1, 2]
    assert windows[0].seed == 7
    assert len({window.seed for window in windows}) == 3


def test_a_clip_with_transparency_and_half_precision_is_compared_by_its_colors():
    known = torch.full((2, 8, 8, 3), 0.5)
    clip = torch.cat([known + 0.25, torch.zeros(2, 8, 8, 1)], dim=-1).half()
    assert known_difference(clip, known) == pytest.approx(0.25)
    assert known_difference(clip[:1], known) == pytest.approx(0.25), "of the frames that there are"
    check_clip(clip.repeat(7, 1, 1, 1)[:13], plan(2)[1], width=8, height=8)
    made = new_frames(clip.repeat(7, 1, 1, 1), plan(2)[1], known)
    assert (made.shape, made.dtype) == ((12, 8, 8, 3), torch.float32)


def test_clips_that_are_just_what_was_asked_for_are_taken():
    check_clip(torch.zeros(13, 8, 8, 3), plan(2)[1], width=8, height=8)
    check_clip(torch.zeros(13, 4, 8, 4), plan(2)[1], width=8, height=4)
    with pytest.raises(ValueError, match="IMAGE batch"):
        check_clip(torch.zeros(13, 8, 8, 2), plan(2)[1], width=8, height=8)
    blended = plan(3, sizes=ClipSizes(13, 5, blend=3))
    for window in blended:
        check_clip(torch.zeros(13, 8, 8, 3), window, width=8, height=8)
        with pytest.raises(ValueError, match="came back with 12 frames"):
            check_clip(torch.zeros(12, 8, 8, 3), window, width=8, height=8)


def test_frames_in_range_are_not_copied():
    frames = torch.rand(2, 4, 4, 3, generator=torch.Generator().manual_seed(0))
    frames[0, 0, 0] = torch.tensor([0.0, 0.5, 1.0])
    assert in_range(frames) is frames

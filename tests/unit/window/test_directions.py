"""Lines of the prompts box about single windows: what they set, what is refused, and what stays as it was."""

import pytest
from magic141.model_patches.window.clips import ClipSizes, plan_clips
from magic141.model_patches.window.directions import LARGEST_SEED, Directions, read_directions
from magic141.model_patches.window.plan import attempt_seed, plan_run, window_seed
from magic141.model_patches.window.prompts import parse_prompts
from magic141.model_patches.window.run import window_keys
from magic141.model_patches.window.settings import WindowSettings

TEXT = "a\n[window 2] seed 77\n[ WINDOW 03 ]  End  my  pictures/castle.png\nb\n[Keep  Later] 2.0\n[window 3] seed 0"


def plan(prompts: str, **changes):
    settings = WindowSettings(prompts=prompts, length=3, length_in="windows", window_length=13, seed=5)
    return plan_run(settings, continues=False, has_end_image=False, **changes)


def clips(prompts: str):
    options = {"continues": False, "fps": 16.0, "seed": 5}
    return plan_clips(ClipSizes(13, 1), 37, prompts=prompts, **options)


def test_lines_about_single_windows_are_read_and_are_no_prompts():
    assert read_directions(TEXT) == Directions(
        seeds={1: 77, 2: 0},
        ends={2: "my  pictures/castle.png"},
        keep_later=2.0,
        lines={(1, "seed"): 2, (2, "end"): 3, (2, "seed"): 6},
    )
    assert parse_prompts(TEXT) == ["a", "b"]
    assert read_directions("a\nb") == Directions()


@pytest.mark.parametrize(
    "line",
    ["[window] seed 7", "[window seat] a cat", "[windows 2] seed 1", "[keep] 2", "x [window 2] seed 7"],
)
def test_other_words_in_brackets_stay_prompts(line):
    assert parse_prompts(line) == [line]
    assert read_directions(line) == Directions()


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ("a\n[window 0] seed 1", "line 2 is about window 0; windows count from 1"),
        ("[window 2] sed 1", r"line 1 sets 'sed' of window 2, which is not known. Write '\[window 2\] seed"),
        ("[window 2]", "line 1 sets '' of window 2"),
        (
            "[window 2] seed",
            "line 1 gives the seed ''; it takes a whole number from 0 to 18446744073709551615",
        ),
        ("[window 2] seed -1", "seed '-1'"),
        ("[window 2] seed 1.5", "seed '1.5'"),
        ("[window 2] seed ٣", "seed"),
        (f"[window 2] seed {LARGEST_SEED + 1}", f"seed '{LARGEST_SEED + 1}'"),
        (f"[window 2] seed {'9' * 5000}", "line 1 gives the seed"),
        ("[window 2] end", "line 1 names no picture"),
        ("[window 2] seed 1\n[window 2] Seed 1", "line 2 sets the seed of window 2 again"),
        ("[window 2] end a\n\n[window 2] end b", "line 3 sets the end of window 2 again"),
        ("[keep later] 1\n[keep later] 1", r"line 2 sets \[keep later\] again"),
        ("[keep later]", r"line 1 gives \[keep later\] the limit ''"),
        ("[keep later] -1", "limit '-1'; it takes a number of delta E from 0 up"),
        ("[keep later] inf", "limit 'inf'"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(prompts, message):
    with pytest.raises(ValueError, match=message):
        read_directions(prompts)


@pytest.mark.parametrize("planned", [plan, clips])
@pytest.mark.parametrize("number", ["4", "4" * 5000])
def test_a_window_beyond_the_video_is_refused(planned, number):
    with pytest.raises(ValueError, match=r"line 2 is about window 4\d*; the video has 3 windows"):
        planned(f"a\n[window {number}] seed 1")


@pytest.mark.parametrize("planned", [plan, clips])
def test_a_seed_of_its_own_is_of_one_window_alone(planned):
    before, after = planned("a"), planned(f"a\n[window 2] seed {LARGEST_SEED}")
    assert [window.seed for window in after] == [before[0].seed, LARGEST_SEED, before[2].seed]
    assert [window.prompt for window in after] == ["a"] * 3


def test_a_seed_of_its_own_changes_the_keys_of_its_window_and_later_ones():
    before, after = (window_keys(plan(text), {}) for text in ("a", "a\n[window 2] seed 9"))
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, False, False]


def test_the_seed_that_a_window_has_anyway_changes_nothing():
    assert plan(f"a\n[window 2] seed {window_seed(5, 1)}") == plan("a")


def test_other_attempts_are_derived_from_a_seed_of_the_windows_own():
    run_seed, derived = 5, window_seed(5, 1)
    assert attempt_seed(run_seed, 1, first=derived, attempt=0) == derived
    assert attempt_seed(run_seed, 1, first=derived, attempt=2) == window_seed(5, 1, 2)
    assert attempt_seed(run_seed, 1, first=77, attempt=0) == 77
    assert attempt_seed(run_seed, 1, first=77, attempt=2) == window_seed(77, 1, 2)


def test_an_end_picture_of_the_last_window_shares_frames_as_the_socket_does():
    settings = WindowSettings(prompts="a\n[window 3] end x.png", length=1.2, window_length=13)
    plain = WindowSettings(prompts="a", length=1.2, window_length=13)
    shared = plan_run(plain, continues=False, has_end_image=True)
    assert plan_run(settings, continues=False, has_end_image=False) == shared
    assert plan_run(plain, continues=False, has_end_image=False) != shared


def test_keys_of_older_versions_are_still_found():
    settings = WindowSettings(prompts="a\n[5-end] b", length=9, seed=7)
    windows = plan_run(settings, continues=False, has_end_image=True)
    known = (
        ({}, "c2c4d7c1890394fa443d1e449dc28722361abd7ef0cc028edd2ebce8ac0f6d1d"),
        ({1: "x"}, "98995406d3cffb657cf833330e1e9383c3806029a80440a46399eaf8bbe5d8ce"),
    )
    for end_images, key in known:
        assert window_keys(windows, {"a": 1}, end_images=end_images)[-1] == key

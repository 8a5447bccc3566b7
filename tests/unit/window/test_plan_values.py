"""Plans by their numbers, and seeds and defaults that runs of other versions rely on."""

import hashlib
from dataclasses import asdict

import pytest
from magic141.model_patches.window.plan import (
    Window,
    check_window,
    new_latent_frames_for,
    plan_run,
    window_seed,
    window_sizes,
)
from magic141.model_patches.window.settings import WindowSettings


@pytest.mark.parametrize(("seed", "index", "attempt"), [(7, 1, 0), (7, 0, 1), (2**64 - 1, 12, 2)])
def test_a_windows_seed_is_half_of_a_digest_so_that_old_runs_go_on(seed, index, attempt):
    digest = hashlib.sha256(f"{seed}/{index}/{attempt}".encode()).hexdigest()
    assert window_seed(seed, index, attempt) == int(digest[:16], 16) // 2


def test_only_the_very_first_attempt_has_the_seed_itself():
    assert window_seed(7, 0) == window_seed(7, 0, 0) == 7
    assert window_seed(7, 1) == window_seed(7, 1, 0) != 7
    assert len({window_seed(7, index, attempt) for index in range(3) for attempt in range(3)}) == 9


def test_windows_of_a_plan_by_their_numbers():
    settings = WindowSettings(
        prompts="a\nb", length=2, length_in="windows", window_length=13, overlap=2, fps=10, seed=3
    )
    assert plan_run(settings, continues=False, has_end_image=False) == [
        Window(0, 0, 13, "a", 3, 4, 1, 4),
        Window(1, 13, 8, "b", window_seed(3, 1), 4, 2, 2),
    ]
    assert plan_run(settings, continues=True, has_end_image=False) == [
        Window(0, 0, 8, "a", 3, 4, 2, 2),
        Window(1, 8, 8, "b", window_seed(3, 1), 4, 2, 2),
    ]


def test_prompts_with_times_are_those_of_the_plans_seconds():
    settings = WindowSettings(prompts="[0-1s] a\n[1-9s] b", length=2.1, window_length=13, overlap=1, fps=10)
    windows = plan_run(settings, continues=False, has_end_image=False)
    assert [(w.start_frame, w.num_new_frames, w.prompt) for w in windows] == [(0, 13, "a"), (13, 8, "b")]


def test_at_least_one_window_is_made():
    settings = WindowSettings(length=0.2, length_in="windows", window_length=13)
    assert len(plan_run(settings, continues=False, has_end_image=False)) == 1
    assert len(plan_run(settings, continues=True, has_end_image=False)) == 1


@pytest.mark.parametrize(
    ("seconds", "fps", "continues", "latent"),
    [
        (1, 24, True, 6),
        (1, 25, False, 7),
        (1, 24, False, 7),
        (1.1, 24, True, 7),
        (0, 24, False, 1),
        (0.1, 24, False, 1),
    ],
)
def test_seconds_become_the_nearest_latent_frames(seconds, fps, continues, latent):
    assert new_latent_frames_for(seconds, fps=fps, continues=continues) == latent


@pytest.mark.parametrize(
    ("num_new", "continues", "end", "sizes"),
    [
        (3, False, False, [3]),
        (5, False, False, [5]),
        (6, False, False, [5, 1]),
        (9, False, False, [5, 4]),
        (10, False, False, [5, 4, 1]),
        (4, True, False, [4]),
        (5, True, False, [4, 1]),
        (6, False, True, [3, 3]),
        (10, False, True, [5, 2, 3]),
        (5, True, True, [2, 3]),
        (9, False, True, [5, 4]),
        (4, True, True, [4]),
    ],
)
def test_sizes_of_windows_of_five_that_share_one(num_new, continues, end, sizes):
    shape = {"window_latent": 5, "overlap_latent": 1, "continues": continues}
    assert window_sizes(num_new, **shape, has_end_image=end) == sizes


def test_an_overlap_is_refused_with_what_would_do():
    check_window(2, 1)
    with pytest.raises(
        ValueError, match=r"overlap is 3 .* the window 3 \(9 frames\).*Set overlap to 2 or less"
    ):
        check_window(3, 3)
    with pytest.raises(ValueError, match="overlap is 0 latent frames; joining windows needs at least 1"):
        check_window(3, 0)


def test_the_defaults_of_a_long_video():
    """They go into the identity of a run, so that a changed one makes old runs new ones."""
    assert asdict(WindowSettings()) == {
        "prompts": "",
        "negative_prompt": "",
        "length": 60.0,
        "length_in": "seconds",
        "window_length": 121,
        "overlap": 1,
        "width": 960,
        "height": 544,
        "fps": 24.0,
        "steps": 4,
        "shift": 5.0,
        "sampler": "euler",
        "cfg": 1.0,
        "guidance": 6.0,
        "seed": 0,
        "hand_over": "auto",
        "color_anchor": 0.0,
        "reroll_threshold": 0.0,
        "turn_limit": 0.0,
        "run_name": "run",
        "codec": "h264",
        "encoder_looks_at": "start of each window",
    }


def test_what_each_window_keeps_for_itself_is_not_shared_by_all():
    shared = WindowSettings().of_every_window()
    own = {"prompts", "length", "length_in", "run_name"}
    assert set(asdict(WindowSettings())) - set(shared) == own | {"encoder_looks_at"}, "older runs go on"
    changed = WindowSettings(encoder_looks_at="first picture").of_every_window()
    assert set(asdict(WindowSettings())) - set(changed) == own
    assert WindowSettings(window_length=13).window_latent == 4

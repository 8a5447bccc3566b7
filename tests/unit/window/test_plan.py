"""Plan of windows: lengths, prompts, seeds."""

from itertools import pairwise

import pytest
from magic141.model_patches.sizes import num_latent_frames
from magic141.model_patches.window.plan import (
    check_window,
    new_latent_frames_for,
    num_frames_of,
    plan_windows,
    window_seed,
    window_sizes,
)
from magic141.model_patches.window.prompts import parse_prompts


def plan(num_new_latent=10, *, window=4, overlap=1, continues=False, prompts="a ball", seed=7):
    sizes = window_sizes(num_new_latent, window_latent=window, overlap_latent=overlap, continues=continues)
    return plan_windows(
        sizes,
        window_latent=window,
        overlap_latent=overlap,
        continues=continues,
        prompts=parse_prompts(prompts),
        fps=24,
        seed=seed,
    )


@pytest.mark.parametrize("num_latent", [1, 2, 21, 33])
def test_latent_and_pixel_lengths_invert_each_other(num_latent):
    assert num_latent_frames(num_frames_of(num_latent)) == num_latent


@pytest.mark.parametrize("continues", [False, True])
@pytest.mark.parametrize("overlap", [1, 2, 3])
@pytest.mark.parametrize("num_new", [1, 4, 10, 361])
def test_windows_tile_the_video_without_gap_or_double(num_new, overlap, continues):
    windows = plan(num_new, overlap=overlap, continues=continues)
    assert sum(w.num_new_latent_frames for w in windows) == num_new
    for before, after in pairwise(windows):
        assert after.start_frame == before.start_frame + before.num_new_frames
    total = windows[-1].start_frame + windows[-1].num_new_frames
    assert total == (4 * num_new if continues else num_frames_of(num_new))


@pytest.mark.parametrize("continues", [False, True])
@pytest.mark.parametrize(("window", "overlap"), [(31, 1), (4, 1), (4, 2), (4, 3), (9, 4)])
def test_the_way_to_an_end_image_is_no_jump(window, overlap, continues):
    shape = {"window_latent": window, "overlap_latent": overlap, "continues": continues}
    step = window - overlap
    for num_new in range(1, 4 * window):
        cut, shared = window_sizes(num_new, **shape), window_sizes(num_new, **shape, has_end_image=True)
        assert sum(shared) == num_new
        assert len(shared) == len(cut)
        assert shared[:-2] == cut[:-2]
        assert len(shared) == 1 or (continues or len(shared) > 2 or shared[0] >= overlap)
        assert len(shared) == 1 or step // 2 <= shared[-1] <= step


def test_every_window_fits_its_known_frames():
    for window in plan(50, overlap=3):
        assert window.num_known_latent_frames + (window.num_new_latent_frames if window.index else 0) <= 4


def test_sixty_seconds_is_sixty_seconds():
    num_latent = new_latent_frames_for(60, fps=24, continues=False)
    assert num_frames_of(num_latent) == 1441
    assert new_latent_frames_for(60, fps=24, continues=True) * 4 == 1440
    assert new_latent_frames_for(0.01, fps=24, continues=True) == 1


@pytest.mark.parametrize(("window", "overlap"), [(4, 4), (4, 5), (1, 1), (4, 0)])
def test_overlap_not_smaller_than_the_window_is_refused(window, overlap):
    with pytest.raises(ValueError, match="overlap is"):
        check_window(window, overlap)


def test_seeds_differ_and_the_first_is_the_given_one():
    seeds = [w.seed for w in plan(40)]
    assert seeds[0] == 7
    assert len(set(seeds)) == len(seeds)
    assert window_seed(7, 0, 1) != 7
    assert all(0 <= window_seed(2**64 - 1, i) < 2**63 for i in range(1, 9))


def test_a_longer_run_keeps_its_earlier_windows():
    short, long = plan(40), plan(80)
    assert long[: len(short) - 1] == short[:-1]


def test_a_day_of_short_windows_is_planned_at_once():
    num_latent = new_latent_frames_for(86_400, fps=24, continues=False)
    windows = plan(num_latent)
    assert sum(window.num_new_latent_frames for window in windows) == num_latent
    assert len(windows) == 172_800

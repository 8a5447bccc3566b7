"""A run of windows driven from outside, a window at a time, by frames alone: no model, no latent, no host."""

import pytest
import torch
from magic141.model_patches.store.video_sink import VideoFormat
from magic141.model_patches.window.plan import plan_run
from magic141.model_patches.window.run import (
    MAX_REROLLS,
    Begin,
    Clip,
    Judged,
    Limits,
    Tail,
    WindowRun,
    make_reference,
    read_tail,
    reference_tensors,
    tail_tensors,
    window_keys,
)
from magic141.model_patches.window.settings import WindowSettings
from magic141.model_patches.window.store import WindowStore

SETTINGS = WindowSettings(prompts="a\nb\nc", length=3, length_in="windows", window_length=13, overlap=2)
FORMAT = VideoFormat("ffv1 lossless", 24, 32, 32)


def frames_for(window, attempt: int = 0):
    generator = torch.Generator().manual_seed(100 * window.index + attempt)
    return torch.rand(window.num_new_frames, 32, 32, 3, generator=generator)


@pytest.fixture
def open_run(tmp_path):
    """Return a function that opens the run's folder as one series after another would."""
    stores = []

    def open_run(prompts: str = SETTINGS.prompts, limits: Limits | None = None, tail=None) -> WindowRun:
        settings = WindowSettings(**{**vars(SETTINGS), "prompts": prompts})
        windows = plan_run(settings, continues=tail is not None, has_end_image=False)
        store = WindowStore(tmp_path, {"graph": "a"}, FORMAT).__enter__()
        stores.append(store)
        return WindowRun(store, windows, window_keys(windows, {}), limits or Limits(), Begin(5, tail))

    yield open_run
    for store in stores:
        store.__exit__(None)


def make_one(run: WindowRun, **state) -> Judged:
    window = run.next_window()
    assert window is not None
    judged = run.judge(window, Clip(frames_for(window), window.seed, state))
    run.finish(window, judged)
    return judged


def test_windows_come_one_by_one_and_the_end_is_none(open_run):
    run = open_run()
    made = []
    while (window := run.next_window()) is not None:
        made.append(window.index)
        make_one(run)
    assert made == [0, 1, 2]
    assert [facts["index"] for facts in run.facts] == made
    assert run.store.join().is_file()


def test_the_next_window_goes_on_from_frames_and_from_whatever_state_came_with_them(open_run):
    run = open_run()
    clip = make_one(run, latent=torch.arange(6).reshape(1, 2, 3), anything=torch.tensor(1.5)).clip
    run.store.__exit__(None)
    again = open_run()
    for tail in (run.tail, again.tail):
        assert torch.equal(tail.frames, clip.frames[-5:].mul(255).round().byte())
        assert torch.equal(tail.state["latent"], torch.arange(6).reshape(1, 2, 3))
        assert float(tail.state["anything"]) == 1.5
    assert again.next_window().index == 1
    assert again.notes == ["1 of 3 windows were finished by an earlier run."]


def test_a_stopped_run_measures_and_colors_as_an_undisturbed_one(open_run):
    limits = Limits(color_anchor=1.0)
    whole = open_run(limits=limits)
    wanted = [make_one(whole) for _ in range(3)][-1]
    whole.store.journal.forget_from(2)
    whole.store.__exit__(None)
    judged = make_one(open_run(limits=limits))
    assert judged.measures == wanted.measures
    assert torch.equal(judged.clip.frames, wanted.clip.frames)


def test_a_changed_prompt_takes_over_the_windows_before_it(open_run):
    run = open_run()
    for _ in range(3):
        make_one(run)
    run.store.__exit__(None)
    assert open_run("a\nB\nc").next_window().index == 1


def test_the_best_of_all_attempts_is_kept(open_run):
    run = open_run(limits=Limits(reroll_threshold=1.0))
    make_one(run)
    window, tried = run.next_window(), []

    def make(window, attempt: int) -> Clip:
        tried.append(run.judge(window, Clip(frames_for(window, attempt), attempt)))
        return tried[-1].clip

    best, attempts = run.best(window, make)
    assert attempts == len(tried) == 1 + MAX_REROLLS
    assert best.over == min(judged.over for judged in tried)


def test_without_limits_a_window_is_made_once(open_run):
    run = open_run()
    make_one(run)
    _, attempts = run.best(run.next_window(), lambda window, n: Clip(frames_for(window, n), n))
    assert attempts == 1


def test_the_first_of_a_continued_video_is_measured_at_its_seam(open_run):
    run = open_run(tail=Tail(torch.zeros(5, 32, 32, 3, dtype=torch.uint8)))
    assert "seam_motion" in make_one(run).measures


def test_how_far_a_window_goes_back_to_the_first_frame_is_measured(tmp_path):
    windows = plan_run(SETTINGS, continues=False, has_end_image=False)
    first = torch.full((1, 32, 32, 3), 0.2)
    levels = torch.linspace(0.2, 0.8, 13), torch.linspace(0.8, 0.5, 8)
    with WindowStore(tmp_path, {"graph": "a"}, FORMAT) as store:
        run = WindowRun(store, windows, window_keys(windows, {}), Limits(), Begin(5, first=first))
        for level in levels:
            window = run.next_window()
            frames = level[:, None, None, None].expand(-1, 32, 32, 3)
            run.finish(window, run.judge(window, Clip(frames, window.seed)))
    went, came_back = (facts["measures"] for facts in run.facts)
    assert "returned" not in went
    assert came_back["returned"] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("name", ["color_anchor", "cfg", "fps", "length"])
def test_a_setting_that_is_no_number_is_named(name):
    with pytest.raises(ValueError, match=f"{name} is nan"):
        WindowSettings(**{name: float("nan")})


def test_an_end_image_changes_the_last_window_alone():
    windows = plan_run(SETTINGS, continues=False, has_end_image=True)
    plain, one, other = (window_keys(windows, {"a": 1}, end_image_hash=text) for text in ("", "x", "y"))
    assert plain[:-1] == one[:-1] == other[:-1]
    assert len({plain[-1], one[-1], other[-1]}) == 3
    assert window_keys(windows, {"a": 2})[0] != plain[0]


def test_a_tail_on_disk_is_named_as_every_version_reads_it():
    tail = Tail(
        torch.zeros(2, 4, 4, 3, dtype=torch.uint8), {"latent": torch.ones(1), "tail.state.x": torch.zeros(1)}
    )
    tensors = tail_tensors(tail)
    assert set(tensors) == {"tail.frames", "tail.state.latent", "tail.state.tail.state.x"}
    assert set(read_tail(tensors).state) == {"latent", "tail.state.x"}
    reference = make_reference(torch.rand(1, 8, 8, 3, generator=torch.Generator().manual_seed(0)))
    names = {"reference.lab", *(f"reference.palette.{name}" for name in ("seeds", "colors", "shares"))}
    assert set(reference_tensors(reference)) == names


def test_a_window_may_be_finished_before_the_next_is_asked_for(open_run):
    run = open_run()
    window = run.windows[0]
    run.finish(window, run.judge(window, Clip(frames_for(window), window.seed)), attempts=2)
    (facts,) = run.facts
    assert 0 <= facts["seconds"] < 60
    assert (facts["attempts"], facts["seed"], facts["start_frame"]) == (2, window.seed, 0)


def test_only_the_first_window_keeps_what_all_are_held_to(open_run):
    run = open_run()
    make_one(run)
    make_one(run)
    kept = [{name.partition(".")[0] for name in run.store.journal.tensors(index)} for index in (0, 1)]
    assert kept == [{"tail", "reference"}, {"tail"}]

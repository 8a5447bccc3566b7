"""A run of windows driven from outside, a window at a time, by frames alone: no model, no latent, no host."""

import json

import pytest
import torch
from magic141.model_patches.store.files import file_sha256
from magic141.model_patches.store.video_sink import VideoFormat
from magic141.model_patches.window.journal import RunDirectoryBroken, chain_keys, digest
from magic141.model_patches.window.plan import plan_run
from magic141.model_patches.window.run import (
    Begin,
    Clip,
    Judged,
    Limits,
    Tail,
    WindowRun,
    from_uint8,
    make_reference,
    read_tail,
    reference_tensors,
    tail_tensors,
    times_over_limits,
    to_uint8,
    wanted_motion,
    window_facts,
    window_keys,
)
from magic141.model_patches.window.settings import WindowSettings
from magic141.model_patches.window.store import WindowStore
from safetensors.torch import load_file, save_file

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
    assert [facts["attempts"] for facts in run.facts] == [1, 1, 1]
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
    (whole.store.folder / "windows/0002.json").unlink()
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

    def make(window, tail, attempt: int) -> Clip:
        assert tail is run.tail
        tried.append(run.judge(window, Clip(frames_for(window, attempt), attempt)))
        return tried[-1].clip

    best, attempts = run.best(window, make)
    assert attempts == len(tried) == 3
    assert best.over == min(judged.over for judged in tried)


def test_without_limits_a_window_is_made_once(open_run):
    run = open_run()
    make_one(run)
    _, attempts = run.best(
        run.next_window(), lambda window, _, attempt: Clip(frames_for(window, attempt), attempt)
    )
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
    given = ({}, {2: "x"}, {2: "y"})
    plain, one, other = (window_keys(windows, {"a": 1}, end_images=images) for images in given)
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
    assert facts["seconds"] >= 0
    assert (facts["attempts"], facts["seed"], facts["start_frame"]) == (2, window.seed, 0)


def test_only_the_first_window_keeps_what_all_are_held_to(open_run):
    run = open_run()
    make_one(run)
    make_one(run)
    kept = [{name.partition(".")[0] for name in run.store.journal.tensors(index)} for index in (0, 1)]
    assert kept == [{"tail", "reference"}, {"tail"}]


@pytest.mark.parametrize(
    ("limits", "measures", "over"),
    [
        (Limits(), {"seam_motion": 9.0, "turned_deg": 170.0}, 0.0),
        (Limits(reroll_threshold=2.0), {"seam_motion": 3.0}, 1.5),
        (Limits(reroll_threshold=0.5), {"seam_motion": 0.25}, 2.0),
        (Limits(reroll_threshold=2.0), {}, 0.5),
        (Limits(turn_limit=40.0), {"turned_deg": 60.0}, 1.5),
        (Limits(turn_limit=40.0), {}, 0.0),
        (Limits(reroll_threshold=2.0, turn_limit=40.0), {"seam_motion": 3.0, "turned_deg": 80.0}, 2.0),
    ],
)
def test_how_far_a_window_is_over_its_limits(limits, measures, over):
    assert times_over_limits(measures, limits) == over


def test_a_window_just_at_its_limits_is_good(open_run, monkeypatch):
    run = open_run(limits=Limits(reroll_threshold=2.0))
    monkeypatch.setattr(run, "judge", lambda window, clip: Judged(clip, {}, float(clip.seed)))
    window = run.next_window()
    for overs, wanted in (([1.0], (1.0, 1)), ([1.1, 3.0, 0.5], (0.5, 3)), ([2.0, 1.5, 3.0], (1.5, 3))):
        best, attempts = run.best(window, lambda *_, attempt, overs=overs: Clip(None, overs[attempt]))
        assert (best.over, attempts) == wanted


def test_motion_is_held_from_where_a_prompt_began():
    def made(prompt: str, right: float) -> dict:
        return {"prompt": prompt, "measures": {"motion_right": right, "motion_down": -right}}

    finished = [made("a", 1.0), made("b", 2.0), made("a", 3.0), made("a", 4.0)]
    assert wanted_motion("a", finished) == (3.0, -3.0)
    assert wanted_motion("b", finished) is None
    assert wanted_motion("b", finished[:2]) == (2.0, -2.0)
    assert wanted_motion("a", [{"prompt": "a", "measures": {}}]) is None
    assert wanted_motion("a", []) is None


@pytest.mark.parametrize(("asked", "kept"), [(1, 5), (5, 5), (9, 9)])
def test_as_many_frames_are_kept_as_a_seam_and_the_next_window_need(tmp_path, asked, kept):
    windows = plan_run(SETTINGS, continues=False, has_end_image=False)
    with WindowStore(tmp_path, {"graph": "a"}, FORMAT) as store:
        run = WindowRun(store, windows, window_keys(windows, {}), Limits(), Begin(asked))
        clip = make_one(run).clip
        assert torch.equal(run.tail.frames, to_uint8(clip.frames[-kept:]))
        later = make_one(run).clip
        assert torch.equal(
            run.tail.frames, torch.cat([to_uint8(clip.frames), to_uint8(later.frames)])[-kept:]
        )


def test_bytes_are_the_nearest_levels_and_back():
    frames = torch.tensor([-0.2, 0.0, 0.4 / 255, 0.6 / 255, 0.5, 254.6 / 255, 1.0, 1.2])
    assert to_uint8(frames).tolist() == [0, 0, 0, 1, 128, 255, 255, 255]
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(from_uint8(levels), torch.arange(256.0) / 255)
    assert torch.equal(to_uint8(from_uint8(levels)), levels)


def test_facts_are_plain_rounded_values():
    window = plan_run(SETTINGS, continues=False, has_end_image=False)[1]
    judged = Judged(Clip(torch.zeros(1), 77), {"motion": 0.1234567}, 0.0)
    assert window_facts(window, judged, 2, 1.23456) == {
        "index": 1,
        "prompt": "b",
        "seed": 77,
        "attempts": 2,
        "start_frame": 13,
        "num_new_frames": 8,
        "seconds": 1.235,
        "measures": {"motion": 0.12346},
    }


@pytest.mark.parametrize("name", ["tail.frames", "reference.lab", "reference.palette.shares"])
def test_tensors_that_are_no_windows_are_said(open_run, tmp_path, name):
    run = open_run()
    make_one(run)
    run.store.__exit__(None)
    path = tmp_path / "windows" / "0000.safetensors"
    tensors = load_file(path)
    save_file({key: value for key, value in tensors.items() if key != name}, path)
    entry = json.loads(path.with_suffix(".json").read_text())["entry"]
    entry["files"]["windows/0000.safetensors"] = file_sha256(path)
    path.with_suffix(".json").write_text(json.dumps({"sha256": digest(entry), "entry": entry}))
    with pytest.raises(RunDirectoryBroken, match="are not those of a window"):
        open_run()


def test_keys_of_windows_are_those_of_every_version():
    windows = plan_run(SETTINGS, continues=False, has_end_image=True)
    told = [dict(vars(window)) for window in windows]
    assert window_keys(windows, {"a": 1}) == chain_keys({"a": 1}, told)
    told[-1]["end_image"] = "x"
    assert window_keys(windows, {"a": 1}, end_images={2: "x"}) == chain_keys({"a": 1}, told)

"""Older takes of a window: found again by what made them, never mistaken, whole after a kill."""

import hashlib
import json
import shutil
import tempfile
from dataclasses import asdict
from functools import cache
from pathlib import Path

import pytest
import torch
from magic141.model_patches.store import files
from magic141.model_patches.store.video_sink import VideoFormat
from magic141.model_patches.store.video_source import read_frames
from magic141.model_patches.window import takes
from magic141.model_patches.window.cards import Place, window_cards
from magic141.model_patches.window.directions import read_directions
from magic141.model_patches.window.entries import Entry, digest
from magic141.model_patches.window.plan import plan_run, window_seed
from magic141.model_patches.window.run import Begin, Clip, Limits, WindowRun, window_keys
from magic141.model_patches.window.settings import WindowSettings
from magic141.model_patches.window.store import WindowStore

FORMAT = VideoFormat("ffv1 lossless", 24, 16, 16)
A, B, C = "a", "a\n[window 2] seed 77", "a\n[window 2] seed 78"


def frames_for(window, tail) -> torch.Tensor:
    """Draw frames that depend on the seed, the prompt and all that came before."""
    before = b"" if tail is None else tail.frames.numpy().tobytes()
    drawn = hashlib.sha256(f"{window.seed} {window.prompt}".encode() + before).digest()[:7]
    generator = torch.Generator().manual_seed(int.from_bytes(drawn, "big"))
    return torch.rand(window.num_new_frames, 16, 16, 3, generator=generator)


class Folder:
    """A run's folder in which runs of several prompts are made, with keys that hold those before them or not."""

    def __init__(self, path: Path, chained: bool) -> None:
        self.path, self.chained = path, chained
        self.entries: list[Entry] = []
        self.cards: list[dict] = []

    def begin(self, store: WindowStore, prompts: str, length: int = 4) -> WindowRun:
        settings = WindowSettings(prompts, length=length, length_in="windows", window_length=13, seed=5)
        windows = plan_run(settings, continues=False, has_end_image=False)
        keys = window_keys(windows, {}) if self.chained else [digest(asdict(window)) for window in windows]
        own = read_directions(prompts)
        return WindowRun(store, windows, keys, Limits(), Begin(5), directions=own)

    def open(self) -> WindowStore:
        return WindowStore(self.path, {"seed": 5}, FORMAT)

    def make(self, prompts: str, *, stop_at: int = 99, length: int = 4) -> list[int]:
        """Make what is not finished; return which windows that were."""
        made = []
        with self.open() as store:
            run = self.begin(store, prompts, length)
            while (window := run.next_window()) is not None and window.index < stop_at:
                run.finish(window, run.judge(window, Clip(frames_for(window, run.tail), window.seed)))
                made.append(window.index)
            self.entries, self.cards = store.entries, window_cards(run, Place("", 24.0))
        return made

    def frames(self) -> list[bytes]:
        segments = sorted((self.path / "segments").iterdir())
        return [torch.stack(list(read_frames(path))).numpy().tobytes() for path in segments]

    def takes(self) -> list[str]:
        return sorted(path.name.partition("-")[0] for path in self.path.glob("takes/*"))

    def change_entries(self, change) -> None:
        for path in self.path.rglob("*.json"):
            if "sha256" in (document := json.loads(path.read_text())):
                entry = change(document["entry"])
                path.write_text(json.dumps({"sha256": digest(entry), "entry": entry}))


@pytest.fixture(params=[True, False], ids=["chained", "apart"])
def folder(request, tmp_path) -> Folder:
    return Folder(tmp_path / "run", request.param)


@cache
def fresh(prompts: str, chained: bool) -> list[bytes]:
    """Return the segments of a run that is made from the beginning, once for all tests."""
    with tempfile.TemporaryDirectory() as path:
        one = Folder(Path(path) / "run", chained)
        one.make(prompts)
        return one.frames()


@pytest.fixture
def wanted(folder) -> dict[str, list[bytes]]:
    """Return the segments of runs that were made from the beginning."""
    return {prompts: fresh(prompts, folder.chained) for prompts in (A, B, C)}


def test_going_back_to_an_older_seed_makes_nothing(folder, wanted):
    assert folder.make(A) == [0, 1, 2, 3]
    assert folder.make(B) == [1, 2, 3]
    assert folder.frames() == wanted[B]
    for prompts in (A, B, A):
        assert folder.make(prompts) == []
        assert folder.frames() == wanted[prompts]
    assert folder.takes() == ["0001", "0002", "0003"]


def test_of_every_window_one_older_take_is_kept(folder, wanted):
    for prompts in (A, B, C):
        folder.make(prompts)
    assert folder.takes() == ["0001", "0002", "0003"]
    assert folder.make(B) == []
    assert folder.make(A) == [1, 2, 3]
    assert folder.frames() == wanted[A]


def test_a_redo_that_was_stopped_takes_over_no_window_of_the_other_take(folder, wanted):
    folder.make(A)
    assert folder.make(B, stop_at=2) == [1]
    assert folder.make(B, stop_at=2) == []
    assert folder.make(A) == []
    assert folder.make(B, stop_at=3) == [2]
    assert folder.make(A) == []
    assert folder.frames() == wanted[A]
    assert folder.make(B) == [3]
    assert folder.frames() == wanted[B]


def test_folders_of_older_versions_have_takes_too(folder, wanted):
    folder.make(A)
    folder.change_entries(lambda entry: {name: entry[name] for name in ("index", "key", "files", "facts")})
    assert folder.make(A) == []
    folder.make(B, stop_at=2)
    assert folder.make(B) == [2, 3]
    assert folder.frames() == wanted[B]
    assert folder.make(A) == []
    assert folder.frames() == wanted[A]


def test_windows_behind_one_that_is_damaged_in_an_old_folder_are_made_again(folder, wanted):
    folder.make(A)
    folder.change_entries(lambda entry: {name: entry[name] for name in ("index", "key", "files", "facts")})
    (folder.path / "windows/0001.json").write_text("{")
    assert folder.make(B, stop_at=2) == [1]
    assert folder.make(B) == [2, 3]
    assert folder.frames() == wanted[B]


def test_a_damaged_window_does_not_push_a_whole_take_out(folder, wanted):
    folder.make(A)
    folder.make(B)
    segment = folder.path / "segments/0001.mkv"
    segment.write_bytes(segment.read_bytes()[:-1])
    assert folder.make(B, stop_at=2) == [1]
    assert folder.make(A) == []
    assert folder.frames() == wanted[A]


def test_a_video_that_is_made_shorter_and_longer_again_is_found(folder, wanted):
    folder.make(A)
    folder.make(B, length=2)
    assert folder.make(A) == []
    assert folder.frames() == wanted[A]


class Killed(BaseException):
    pass


class KilledAt:
    """Stands for what changes a folder; kills at the n-th call of all."""

    def __init__(self, monkeypatch, number: int) -> None:
        self.left = number
        for module, name in ((takes, "replace_or_keep"), (takes, "remove_file"), (files, "replace_or_keep")):
            monkeypatch.setattr(module, name, self.counted(getattr(module, name)))
        monkeypatch.setattr(takes.shutil, "rmtree", self.counted(shutil.rmtree))

    def counted(self, function):
        def counting(*arguments, **options):
            self.left -= 1
            if self.left < 0:
                raise Killed
            return function(*arguments, **options)

        return counting


@pytest.mark.parametrize("folder", [False], ids=["apart"], indirect=True)
@pytest.mark.parametrize(("first", "then"), [(B, A), (B, B), (C, A), (C, C)])
def test_after_a_kill_at_any_moment_every_take_is_whole_or_forgotten(
    folder, wanted, monkeypatch, first, then
):
    folder.make(A)
    folder.make(B)
    folder.make(A)
    shutil.copytree(folder.path, folder.path.with_name("before"))
    for number in range(1000):
        shutil.rmtree(folder.path)
        shutil.copytree(folder.path.with_name("before"), folder.path)
        with monkeypatch.context() as patch:
            killed = KilledAt(patch, number)
            try:
                folder.make(first)
                break
            except Killed:
                pass
            assert killed.left < 0
        made = folder.make(then)
        assert folder.frames() == wanted[then], number
        assert len(made) <= 3, number
        assert folder.make(then) == []
    assert number > 10


def test_a_kill_in_the_middle_of_an_exchange_costs_one_window_at_most(folder, wanted, monkeypatch):
    folder.make(A)
    folder.make(B)
    for number in range(9):
        with monkeypatch.context() as patch:
            KilledAt(patch, number)
            with pytest.raises(Killed):
                folder.make(A)
        assert folder.make(A) == [], number
        assert folder.frames() == wanted[A]
        folder.make(B)


def take_of(folder: Folder, index: int) -> Path:
    (found,) = folder.path.glob(f"takes/{index:04d}-*")
    return found


@pytest.mark.parametrize(
    "way", ["linked take", "linked file", "outside", "another name", "no entry", "damaged"]
)
def test_a_take_that_came_from_elsewhere_is_not_taken(folder, wanted, tmp_path, way):
    folder.make(A)
    folder.make(B)
    take, outside = take_of(folder, 1), tmp_path / "outside"
    segment = take / "segments/0001.mkv"
    if way == "linked take":
        shutil.move(take, outside)
        take.symlink_to(outside)
    elif way == "linked file":
        shutil.move(segment, outside)
        segment.symlink_to(outside)
    elif way == "outside":
        shutil.copy(segment, outside)
        name = "segments/../../../../outside"
        folder.change_entries(lambda entry: entry | {"files": entry["files"] | {name: "0" * 64}})
    elif way == "another name":
        take.rename(take.with_name("0001-00000000"))
    elif way == "no entry":
        (take / "windows/0001.json").unlink()
    else:
        (take / "windows/0001.json").write_text('{"sha256": 1, "entry": []}')
    kept = sorted(path.name for path in outside.rglob("*")) if outside.is_dir() else outside.exists()
    assert folder.make(A)[-3:] == [1, 2, 3]
    assert folder.frames() == wanted[A]
    assert kept == (
        sorted(path.name for path in outside.rglob("*")) if outside.is_dir() else outside.exists()
    )


def test_the_page_is_told_the_takes_that_can_be_chosen(folder):
    folder.make("a\nb")
    folder.make("a\nB\nb\n[window 2] seed 77\n[window 2] end castle.png")
    with folder.open() as store:
        run = folder.begin(store, "a\nB\nb\n[window 2] seed 77\n[window 2] end castle.png")
        cards = window_cards(run, Place("runs/a", 24.0))
    ((take,), others) = cards[1]["takes"], [cards[index]["takes"] for index in (0, 2, 3)]
    assert others == [[], [], []], "they followed from the other take"
    file = take.pop("file")
    assert take == {"prompt": "b", "seed": str(window_seed(5, 1)), "end": ""}
    assert (
        folder.path / "takes" / file["subfolder"].removeprefix("runs/a/takes/") / file["filename"]
    ).is_file()
    folder.make("a\nb")
    with folder.open() as store:
        cards = window_cards(folder.begin(store, "a\nb"), Place("", 24.0))
    (take,) = cards[1]["takes"]
    assert (take["prompt"], take["seed"], take["end"]) == ("B", "77", "castle.png")


def test_a_take_of_an_older_version_is_told_with_the_seed_that_was_planned(folder):
    folder.make(B)
    folder.make(A)
    names = ("planned_seed", "end")
    folder.change_entries(
        lambda entry: entry | {"facts": {k: v for k, v in entry["facts"].items() if k not in names}}
    )
    folder.make(C)
    with folder.open() as store:
        (take,) = window_cards(folder.begin(store, C), Place("", 24.0))[1]["takes"]
    assert (take["seed"], take["end"]) == (str(window_seed(5, 1)), "")

"""A run folder that came from elsewhere: its entries are checked, and nothing outside is read, written or removed."""

import json
import math
import os
from pathlib import Path

import pytest
import torch
from magic141.model_patches.store.directory_lock import DirectoryLocked
from magic141.model_patches.store.files import file_sha256, make_subfolder, path_inside, read_json
from magic141.model_patches.store.video_sink import VideoFormat
from magic141.model_patches.window.journal import RunDirectoryBroken, RunJournal, digest
from magic141.model_patches.window.store import WindowStore
from magic141.tests.unit.window.test_journal import SETTINGS, keys_for, make_run

PROMPTS = ("a", "b", "c")
FACTS = {
    "index": 0,
    "prompt": "a",
    "seed": 2**64 - 1,
    "attempts": 1,
    "start_frame": 0,
    "num_new_frames": 5,
    "seconds": 0.5,
    "measures": {"color_shift": 0.0, "brightness": 0.5, "sharpness": 0.1},
}


@pytest.fixture
def run(tmp_path) -> Path:
    make_run(tmp_path / "run", *PROMPTS)
    return tmp_path / "run"


@pytest.fixture
def outside(tmp_path) -> Path:
    path = tmp_path / "outside" / "0001.mp4"
    path.parent.mkdir()
    path.write_bytes(b"someone's")
    return path


def rewrite(run: Path, number: int, **changes) -> None:
    """Change an entry as anyone can: with the digest that fits."""
    path = run / f"windows/{number:04d}.json"
    entry = json.loads(path.read_text())["entry"] | changes
    write_entry(path, entry)


def write_entry(path: Path, entry: object) -> None:
    path.write_text(json.dumps({"sha256": digest(entry), "entry": entry}))


def files_of(run: Path, index: int) -> dict[str, str]:
    return json.loads((run / f"windows/{index:04d}.json").read_text())["entry"]["files"]


def make_again(run: Path, *, first: int) -> None:
    """See that the windows from ``first`` on are made again, and make that one."""
    keys = keys_for(*PROMPTS)
    with RunJournal(run, SETTINGS) as journal:
        entries, why = journal.finished(keys)
        assert len(entries) == first
        assert f"Window {first + 1} and later are made again" in why[0]
        segment = run / f"segments/{first:04d}.mp4"
        segment.write_bytes(b"again")
        journal.commit(
            first, keys[first], tensors={"tail": torch.ones(1)}, files=[segment], facts={"n": first}
        )
        assert len(journal.finished(keys)[0]) == first + 1


@pytest.mark.parametrize("way", ["absolute", "up", "up inside", "linked folder", "linked file"])
def test_a_file_outside_that_an_entry_names_survives(run, outside, way):
    name = {
        "absolute": str(outside),
        "up": "../outside/0001.mp4",
        "up inside": "segments/../../outside/0001.mp4",
        "linked folder": "segments/out/0001.mp4",
        "linked file": "segments/0001.mkv",
    }[way]
    (run / "segments/out").symlink_to(outside.parent)
    (run / "segments/0001.mkv").symlink_to(outside)
    rewrite(run, 1, files=files_of(run, 1) | {name: file_sha256(outside)})
    make_again(run, first=1)
    assert outside.read_bytes() == b"someone's"
    assert os.path.lexists(run / "segments/0001.mkv")


@pytest.mark.parametrize(
    "name", ["run.json", "lock", "windows/0000.safetensors", "segments/0000.mp4", "video.mp4"]
)
def test_an_entry_names_only_what_its_window_wrote(run, name):
    (run / "video.mp4").write_bytes(b"joined")
    content = (run / name).read_bytes()
    rewrite(run, 1, files=files_of(run, 1) | {name: file_sha256(run / name)})
    make_again(run, first=1)
    assert name == "lock" or (run / name).read_bytes() == content


def test_a_frame_of_an_earlier_window_is_not_removed_with_a_later_one(run):
    frame = run / "frames/000001.png"
    frame.parent.mkdir()
    frame.write_bytes(b"picture")
    for index in (0, 2):
        rewrite(run, index, files=files_of(run, index) | {"frames/000001.png": file_sha256(frame)})
    with RunJournal(run, SETTINGS) as journal:
        entries, why = journal.finished(keys_for(*PROMPTS))
        assert (len(entries), why) == (
            2,
            ["Window 3 and later are made again: frames/000001.png is damaged."],
        )
        journal.takes.set_aside(2)
        journal.takes.set_aside(0)
    assert frame.read_bytes() == b"picture"
    assert not (run / "segments/0000.mp4").exists()


WRONG = {
    "index": [0, "1", True, -1, 1.0, 10**300, None],
    "key": [1, None, "../x", "A" * 64, [], "0" * 63],
    "files": [[], {}, "x", {"segments/0001.mp4": 3}, {"segments/0001.mp4": "0" * 64}, None],
    "facts": [[], 3, None, {"n": math.nan}, {"n": math.inf}, {"n": "\ud800"}],
    "more": [1],
}


@pytest.mark.parametrize(("field", "value"), [(f, v) for f, values in WRONG.items() for v in values])
def test_wrong_types_and_ranges_are_damage(run, field, value):
    rewrite(run, 1, **{field: value})
    make_again(run, first=1)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"null",
        b"3",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"entry": 1' + b"0" * 5000 + b"}",
        b'"\\ud800"',
    ],
    ids=["empty", "list", "null", "number", "no text", "deep", "huge", "surrogate"],
)
def test_an_entry_that_is_none_is_damage(run, content):
    (run / "windows/0001.json").write_bytes(content)
    make_again(run, first=1)


@pytest.mark.parametrize("kind", ["loop", "pipe", "dangling", "outside"])
def test_an_entry_that_is_no_plain_file_is_damage(run, outside, kind):
    path = run / "windows/0001.json"
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    else:
        target = {"loop": path.name, "dangling": "nowhere", "outside": str(outside)}[kind]
        path.symlink_to(target)
    make_again(run, first=1)
    assert outside.read_bytes() == b"someone's"


def test_a_folder_in_place_of_an_entry_is_said(run):
    (run / "windows/0001.json").unlink()
    (run / "windows/0001.json").mkdir()
    with pytest.raises(RunDirectoryBroken, match="is a folder where a file of this run belongs"):
        make_again(run, first=1)


@pytest.mark.parametrize("room", ["segments", "windows", "frames", "takes"])
@pytest.mark.parametrize("target", ["outside", "loop"])
def test_a_room_that_leads_elsewhere_is_refused(tmp_path, outside, room, target):
    run = tmp_path / "new"
    run.mkdir()
    (run / room).symlink_to(outside.parent if target == "outside" else room)
    with pytest.raises(RunDirectoryBroken, match=f"{room} is not a folder inside"):
        RunJournal(run, SETTINGS).__enter__()
    assert list(outside.parent.iterdir()) == [outside]


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_a_lock_that_leads_elsewhere_is_refused(run, outside, kind):
    (run / "lock").unlink()
    if kind == "link":
        (run / "lock").symlink_to(outside)
    elif kind == "pipe":
        os.mkfifo(run / "lock")
    else:
        (run / "lock").mkdir()
    with pytest.raises(DirectoryLocked, match="not a plain file"):
        RunJournal(run, SETTINGS).__enter__()
    assert outside.read_bytes() == b"someone's"


@pytest.mark.parametrize("kind", ["loop", "pipe", "deep"])
def test_settings_that_cannot_be_read_are_refused(run, kind):
    path = run / "run.json"
    path.unlink()
    if kind == "loop":
        path.symlink_to(path.name)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.write_text("[" * 100_000)
    with pytest.raises(RunDirectoryBroken, match="is damaged"):
        RunJournal(run, SETTINGS).__enter__()


def test_a_half_written_file_that_is_a_link_is_not_written_through(run, outside):
    keys = keys_for(*PROMPTS)
    with RunJournal(run, SETTINGS) as journal:
        (run / "windows/0001.part.safetensors").symlink_to(outside)
        journal.commit(1, keys[1], tensors={"tail": torch.ones(1)}, files=[], facts={})
    assert outside.read_bytes() == b"someone's"


FACT_FAULTS = [
    {"index": 1},
    {"seed": -1},
    {"num_new_frames": 10**400},
    {"start_frame": "0"},
    {"prompt": None},
    {"attempts": True},
    {"seconds": "1"},
    {"measures": []},
    {"measures": {"color_shift": 0.0}},
    {"measures": FACTS["measures"] | {"brightness": "bright"}},
    {"measures": FACTS["measures"] | {"seam_motion": 1e300}},
]


@pytest.mark.parametrize("change", [{}, *FACT_FAULTS])
def test_facts_of_which_no_report_can_be_made_are_damage(tmp_path, change):
    video = VideoFormat("ffv1 lossless", 24, 32, 32)
    keys = keys_for("a")
    with WindowStore(tmp_path, SETTINGS, video) as store:
        store.save(0, keys[0], torch.zeros(5, 32, 32, 3), tensors={}, facts=FACTS | change)
    with WindowStore(tmp_path, SETTINGS, video) as store:
        notes = store.restore(keys)
        assert len(store.entries) == (0 if change else 1)
    assert any("0000.json is damaged" in note for note in notes) == bool(change)


def test_an_entry_without_its_segment_is_damage(tmp_path):
    video = VideoFormat("ffv1 lossless", 24, 32, 32)
    keys = keys_for("a")
    with WindowStore(tmp_path, SETTINGS, video) as store:
        store.save(0, keys[0], torch.zeros(5, 32, 32, 3), tensors={}, facts=FACTS)
    tensors = "windows/0000.safetensors"
    rewrite(tmp_path, 0, files={tensors: file_sha256(tmp_path / tensors)})
    with WindowStore(tmp_path, SETTINGS, video) as store:
        assert "0000.json is damaged" in store.restore(keys)[0]


@pytest.mark.parametrize(
    "name", ["", ".", "..", "/etc/passwd", "a/../b", "./a", "a//b", "a/", "a\0", "../x", None, 3, ["a"]]
)
def test_names_that_are_no_way_down_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match="is no file name inside"):
        path_inside(tmp_path, name)


def test_a_name_may_be_anything_that_lies_inside(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    for name in ("a", "a/b.c", "1:30.png", "..a", "...", "loop", "x" * 300):
        assert path_inside(tmp_path, name) == tmp_path / name
    with pytest.raises(ValueError, match="does not lie in a or b"):
        path_inside(tmp_path, "c/x", under=("a", "b"))
    with pytest.raises(ValueError, match="does not lie in a"):
        path_inside(tmp_path, "a", under=("a",))


def test_a_subfolder_is_made_once_and_a_file_in_its_place_is_said(tmp_path):
    assert make_subfolder(tmp_path, "a") == make_subfolder(tmp_path, "a") == tmp_path / "a"
    (tmp_path / "b").touch()
    with pytest.raises(ValueError, match="b is not a folder inside"):
        make_subfolder(tmp_path, "b")


def test_deep_json_and_pipes_are_value_errors(tmp_path):
    (tmp_path / "deep.json").write_text("[" * 100_000)
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(ValueError, match="nested too deep"):
        read_json(tmp_path / "deep.json")
    with pytest.raises(ValueError, match="not a plain file"):
        read_json(tmp_path / "pipe.json")


@pytest.mark.parametrize(
    "name",
    [
        "windows/0001.safetensors",
        "windows/0000.mkv",
        "segments/0001.mp4",
        "segments/0000.a-b",
        "frames/1.png",
    ],
)
def test_the_first_entry_names_its_own_files_too(run, name):
    path = run / name
    path.parent.mkdir(exist_ok=True)
    path.touch()
    rewrite(run, 0, files=files_of(run, 0) | {name: file_sha256(path)})
    with RunJournal(run, SETTINGS) as journal:
        assert journal.finished(keys_for(*PROMPTS))[0] == []


@pytest.mark.parametrize("name", ["segments/source.mkv", "segments/0000.mkv", "frames/1234567.png"])
def test_a_continued_video_and_frames_belong_to_the_first_entry(run, name):
    path = run / name
    path.parent.mkdir(exist_ok=True)
    path.touch()
    rewrite(run, 0, files=files_of(run, 0) | {name: file_sha256(path)})
    with RunJournal(run, SETTINGS) as journal:
        assert len(journal.finished(keys_for(*PROMPTS))[0]) == 3

"""Files that other programs and people leave beside ours: left alone, skipped and said, never a crash or a hang."""

import json
import os
from pathlib import Path

import pytest
import torch
from magic141.model_patches.store.walk import listing_digest, walk_files
from magic141.model_patches.training.videos import find_videos
from magic141.model_patches.window.journal import RunJournal
from magic141.tests.support.tiny_videos import write_captioned, write_video
from magic141.tests.unit.window.test_journal import SETTINGS, keys_for, make_run

STRANGE = [
    "._0001.json",
    "0001 (1).json",
    "0001 - Copy.json",
    "1.json",
    "00001.json",
    "\uff10\uff10\uff10\uff11.json",
]


def found(folder: Path) -> tuple[list[str], dict[str, str]]:
    skipped: list[tuple[str, str]] = []
    return [video.file.path for video in find_videos(folder, "input/videos", skipped)], dict(skipped)


def test_strange_names_beside_entries_are_left_alone(tmp_path):
    keys = make_run(tmp_path, "a", "b", "c")
    content = (tmp_path / "windows/0001.json").read_bytes()
    for name in STRANGE:
        (tmp_path / "windows" / name).write_bytes(content)
    (tmp_path / "windows/loop.json").symlink_to("loop.json")
    with RunJournal(tmp_path, SETTINGS) as journal:
        assert len(journal.finished(keys)[0]) == 3
        journal.commit(1, keys[1], tensors={"tail": torch.zeros(1)}, files=[], facts={})
        assert len(journal.finished(keys)[0]) == 2
    assert {*STRANGE, "loop.json"} < set(os.listdir(tmp_path / "windows"))


def test_strange_names_alone_do_not_make_a_run(tmp_path):
    (tmp_path / "windows").mkdir()
    (tmp_path / "windows/._0001.json").touch()
    with RunJournal(tmp_path, SETTINGS) as journal:
        assert journal.finished(keys_for("a")) == ([], [])


def test_a_folder_named_like_a_half_written_file_is_left(tmp_path):
    make_run(tmp_path, "a")
    (tmp_path / "notes.part.d").mkdir()
    with RunJournal(tmp_path, SETTINGS):
        assert (tmp_path / "notes.part.d").is_dir()


def test_captions_that_lead_out_of_the_folder_are_not_read(tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("a secret")
    folder = tmp_path / "videos"
    write_captioned(folder / "good.mp4", "a red ball")
    write_video(folder / "link.mp4")
    (folder / "link.txt").symlink_to(secret)
    (folder / "captions.jsonl").symlink_to(secret)
    videos, skipped = found(folder)
    assert videos == ["good.mp4"]
    assert (
        "link.txt cannot be read: a symbolic link that leaves the folder is not read" in skipped["link.mp4"]
    )
    assert "a symbolic link that leaves the folder" in skipped["captions.jsonl"]


def test_a_caption_may_be_a_link_within_the_folder(tmp_path):
    write_captioned(tmp_path / "a.mp4", "a red ball")
    write_video(tmp_path / "b.mp4")
    (tmp_path / "b.txt").symlink_to("a.txt")
    assert found(tmp_path)[0] == ["a.mp4", "b.mp4"]


@pytest.mark.parametrize("kind", ["loop", "pipe", "folder"])
def test_captions_that_are_no_files_are_said(tmp_path, kind):
    write_captioned(tmp_path / "good.mp4", "a red ball")
    write_video(tmp_path / "bad.mp4")
    for path in (tmp_path / "bad.txt", tmp_path / "captions.jsonl"):
        if kind == "loop":
            path.symlink_to(path.name)
        elif kind == "pipe":
            os.mkfifo(path)
        else:
            path.mkdir()
    videos, skipped = found(tmp_path)
    assert videos == ["good.mp4"]
    assert "bad.txt cannot be read" in skipped["bad.mp4"]
    assert "cannot be read" in skipped["captions.jsonl"]
    assert not any(str(tmp_path) in reason for reason in skipped.values())


def test_a_deep_line_of_captions_is_said(tmp_path):
    write_captioned(tmp_path / "good.mp4", "a red ball")
    (tmp_path / "captions.jsonl").write_text("[" * 100_000)
    assert "not of the form" in found(tmp_path)[1]["captions.jsonl line 1"]


def test_what_macos_leaves_beside_files_is_passed_over(tmp_path):
    write_captioned(tmp_path / "a.mp4", "a red ball")
    (tmp_path / "captions.jsonl").write_text(json.dumps({"video": "a.mp4", "caption": "one"}))
    for name in ("._a.mp4", "._a.txt", "._captions.jsonl", "._a.png"):
        (tmp_path / name).write_bytes(b"\0\5\x16\7")
    assert found(tmp_path) == (["a.mp4"], {})
    assert list(walk_files(tmp_path)) == []


def test_pipes_and_loops_among_videos_and_pictures_are_said(tmp_path):
    write_captioned(tmp_path / "good.mp4", "a red ball")
    for suffix in (".mp4", ".png"):
        os.mkfifo(tmp_path / f"pipe{suffix}")
        (tmp_path / f"loop{suffix}").symlink_to(f"loop{suffix}")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "around").symlink_to(tmp_path)
    videos, skipped = found(tmp_path)
    assert videos == ["good.mp4"]
    assert skipped["pipe.mp4"] == "not a regular file"
    assert "cannot be followed" in skipped["loop.mp4"]
    pictures: dict[str, str] = {}
    assert list(walk_files(tmp_path, on_skip=pictures.__setitem__)) == []
    assert pictures.keys() == {"pipe.png", "loop.png", "around"}
    assert listing_digest(tmp_path)


def test_a_folder_that_cannot_be_listed_is_said(tmp_path, monkeypatch):
    write_captioned(tmp_path / "good.mp4", "a red ball")
    write_captioned(tmp_path / "lost+found/a.mp4", "a blue ball")
    scandir = os.scandir

    def refusing(path):
        if Path(path).name == "lost+found":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    videos, skipped = found(tmp_path)
    assert videos == ["good.mp4"]
    assert skipped["lost+found/"] == "the folder cannot be listed: Permission denied"

"""Files are replaced whole or not at all, on disks and systems that refuse, lock or cannot flush."""

import errno
import os

import pytest
import torch
from magic141.model_patches.dit.stream import save_tensors
from magic141.model_patches.store import disk, files
from magic141.model_patches.store.directory_lock import DirectoryLock
from magic141.model_patches.store.disk import DiskRefused, KeptElsewhere, check_writable
from magic141.model_patches.store.files import (
    atomic_file,
    atomic_folder,
    restore_folders,
    write_text,
)


@pytest.fixture
def in_use(monkeypatch):
    """Refuse to replace what is there for a number of times, as Windows does while a file is open."""
    monkeypatch.setattr(files, "WAITS_S", (0.0,) * 4)
    replace, left = os.replace, [0]

    def refusing(source, target):
        if left[0] and (os.path.exists(target) or os.path.isdir(source)):
            left[0] -= 1
            raise PermissionError(errno.EACCES, "The process cannot access the file")
        replace(source, target)

    monkeypatch.setattr(os, "replace", refusing)
    return left


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EACCES, errno.EPERM, errno.ENOTSUP])
@pytest.mark.parametrize("where", ["open", "fsync"])
def test_a_folder_that_cannot_be_flushed_stops_no_write(tmp_path, monkeypatch, code, where):
    real = getattr(os, where)

    def refusing(what, *rest):
        is_folder = os.path.isdir(what) if where == "open" else os.path.isdir(f"/proc/self/fd/{what}")
        if is_folder:
            raise OSError(code, os.strerror(code))
        return real(what, *rest)

    monkeypatch.setattr(os, where, refusing)
    write_text(tmp_path / "a.txt", "whole")
    with atomic_folder(tmp_path / "folder") as folder:
        (folder / "b.txt").write_text("whole")
    assert (tmp_path / "a.txt").read_text() == (tmp_path / "folder/b.txt").read_text() == "whole"


def test_a_folder_that_fails_is_not_passed_over(tmp_path, monkeypatch):
    def failing(_descriptor):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(DiskRefused, match=r"could not be read or written \(Input/output error\)"):
        write_text(tmp_path / "a.txt", "whole")


def test_a_file_that_a_scanner_holds_for_a_moment_is_replaced(tmp_path, in_use):
    write_text(tmp_path / "a.txt", "old")
    in_use[0] = 3
    write_text(tmp_path / "a.txt", "new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.txt": "new"}


def test_a_file_that_a_scanner_holds_for_a_moment_is_removed(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("")
    monkeypatch.setattr(files, "WAITS_S", (0.0,) * 3)
    unlink, held = os.unlink, [3]

    def refusing(path, *arguments, **options):
        if held[0]:
            held[0] -= 1
            raise PermissionError(errno.EACCES, "The process cannot access the file")
        unlink(path, *arguments, **options)

    monkeypatch.setattr(os, "unlink", refusing)
    files.remove_file(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []
    held[0] = 4
    (tmp_path / "a").write_text("")
    with pytest.raises(PermissionError):
        files.remove_file(tmp_path / "a")


def test_a_file_that_stays_in_use_is_kept_and_so_is_the_new_one(tmp_path, in_use):
    write_text(tmp_path / "a.txt", "old")
    for number in (2, 3):
        in_use[0] = 99
        with pytest.raises(KeptElsewhere, match=rf"a\.txt is open .* kept as a \({number}\)\.txt") as caught:
            write_text(tmp_path / "a.txt", f"new {number}")
        assert caught.value.path == tmp_path / f"a ({number}).txt"
    kept = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert kept == {"a.txt": "old", "a (2).txt": "new 2", "a (3).txt": "new 3"}


def write_folder(path, text):
    with atomic_folder(path) as folder:
        (folder / "a.txt").write_text(text)


def test_a_folder_in_use_is_kept_and_so_is_the_new_one(tmp_path, in_use):
    write_folder(tmp_path / "step", "old")
    in_use[0] = 99
    with pytest.raises(KeptElsewhere):
        write_folder(tmp_path / "step", "new")
    found = {path.parent.name: path.read_text() for path in tmp_path.rglob("*.txt")}
    assert found == {"step": "old", "step (2)": "new"}


def test_a_folder_is_replaced_and_nothing_is_left_beside_it(tmp_path):
    for text in ("old", "new"):
        with atomic_folder(tmp_path / "step") as folder:
            (folder / f"{text}.txt").touch()
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["step", "step/new.txt"]


def test_a_folder_that_cannot_be_written_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "WAITS_S", (0.0,))

    def refusing(_source, _target):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "replace", refusing)
    with pytest.raises(DiskRefused, match="cannot be written"):
        write_text(tmp_path / "a.txt", "new")
    assert not list(tmp_path.iterdir())


def test_what_a_killed_run_left_is_cleared_by_the_next(tmp_path):
    (tmp_path / "a.part.txt").write_text("half")
    (tmp_path / "step.part").mkdir()
    (tmp_path / "step.old.part").mkdir()
    write_text(tmp_path / "a.txt", "whole")
    with atomic_folder(tmp_path / "step") as folder:
        (folder / "b.txt").touch()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "step"]


@pytest.mark.parametrize("new_is_there", [False, True])
def test_a_folder_moved_aside_by_a_killed_process_comes_back_unless_the_new_one_is_there(
    tmp_path, new_is_there
):
    aside = tmp_path / "step.old.part"
    aside.mkdir()
    (aside / "content").write_text("old")
    if new_is_there:
        (tmp_path / "step").mkdir()
        (tmp_path / "step" / "content").write_text("new")
    restore_folders(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step"]
    assert (tmp_path / "step" / "content").read_text() == ("new" if new_is_there else "old")


def test_a_folder_that_is_gone_is_said(tmp_path):
    with pytest.raises(DiskRefused, match=r"gone.* is not there\. If it was moved or deleted meanwhile"):
        write_text(tmp_path / "gone" / "a.txt", "")


def test_a_folder_that_cannot_be_written_is_said_before_the_work(tmp_path):
    check_writable(tmp_path / "loras")
    assert list((tmp_path / "loras").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskRefused, match=r"could not be read or written \(Not a directory\)"):
        check_writable(tmp_path / "file" / "loras")


def test_a_folder_too_deep_for_its_files_is_said_before_the_work(tmp_path, monkeypatch):
    name = "a" * 20
    (tmp_path / name).mkdir()
    longest = len(str(tmp_path / name)) + disk.LONGEST_INSIDE
    monkeypatch.setattr(disk, "LONGEST_PATH", longest)  # 259 where Windows keeps to its old rule
    lock = DirectoryLock(tmp_path / name)
    lock.acquire()
    lock.release()
    monkeypatch.setattr(disk, "LONGEST_PATH", longest - 3)
    with pytest.raises(DiskRefused, match=r"Give a name that is 3 letters shorter"):
        DirectoryLock(tmp_path / name).acquire()


def test_a_full_disk_is_said_and_nothing_is_left(tmp_path, small_files):
    with (
        pytest.raises(DiskRefused, match="The disk is full"),
        atomic_file(tmp_path / "a.safetensors") as part,
    ):
        save_tensors(part, {"a": torch.zeros(1 << 16)})
    assert list(tmp_path.iterdir()) == []

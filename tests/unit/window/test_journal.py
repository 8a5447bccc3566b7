"""The run directory: what counts as finished, what is redone, what is refused."""

import errno
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from magic141.model_patches.store import directory_lock
from magic141.model_patches.store.directory_lock import DirectoryLock, DirectoryLocked
from magic141.model_patches.store.disk import DiskRefused, disk_errors
from magic141.model_patches.store.files import atomic_file, write_text
from magic141.model_patches.window.journal import RunDirectoryBroken, RunJournal, chain_keys, digest

SETTINGS = {"steps": 4, "model": "abc"}


def keys_for(*prompts: str) -> list[str]:
    return chain_keys(SETTINGS, [{"prompt": prompt} for prompt in prompts])


def make_run(folder: Path, *prompts: str) -> list[str]:
    keys = keys_for(*prompts)
    with RunJournal(folder, SETTINGS) as journal:
        for index, key in enumerate(keys):
            segment = folder / f"segments/{index:04d}.mp4"
            segment.parent.mkdir(exist_ok=True)
            segment.write_bytes(b"frames %d" % index)
            journal.commit(
                index, key, tensors={"tail": torch.full((2,), index)}, files=[segment], facts={"n": index}
            )
    return keys


def test_a_finished_run_is_found_again(tmp_path):
    keys = make_run(tmp_path, "a", "b", "c")
    with RunJournal(tmp_path, SETTINGS) as journal:
        entries, why = journal.finished(keys)
        assert [entry.facts["n"] for entry in entries] == [0, 1, 2]
        assert why == []
        assert journal.tensors(1)["tail"].tolist() == [1, 1]


def test_a_changed_prompt_redoes_its_window_and_later_ones_only(tmp_path):
    make_run(tmp_path, "a", "b", "c")
    with RunJournal(tmp_path, SETTINGS) as journal:
        entries, why = journal.finished(keys_for("a", "B", "c"))
        assert len(entries) == 1
        assert "Window 2 and later" in why[0]


def test_a_longer_run_goes_on(tmp_path):
    make_run(tmp_path, "a", "b")
    with RunJournal(tmp_path, SETTINGS) as journal:
        entries, why = journal.finished(keys_for("a", "b", "c"))
    assert (len(entries), why) == (2, [])


def test_later_windows_do_not_follow_from_an_earlier_one_that_is_made_again(tmp_path):
    keys = make_run(tmp_path, "a", "b", "c")
    with RunJournal(tmp_path, SETTINGS) as journal:
        journal.commit(1, keys[1], tensors={"tail": torch.zeros(1)}, files=[], facts={})
        assert len(journal.finished(keys)[0]) == 2


def test_a_window_that_is_overwritten_becomes_no_take(tmp_path):
    keys = make_run(tmp_path, "a", "b", "c")
    (tmp_path / "segments/0001.mp4").write_bytes(b"again")
    with RunJournal(tmp_path, SETTINGS) as journal:
        journal.commit(
            1, keys[1], tensors={"tail": torch.ones(1)}, files=[tmp_path / "segments/0001.mp4"], facts={}
        )
        assert [entry.index for entry in journal.finished(keys)[0]] == [0, 1]
    assert not (tmp_path / "takes").exists()


def test_a_disk_that_fills_up_under_the_tensors_is_said(tmp_path, small_files):
    keys = make_run(tmp_path, "a")
    with RunJournal(tmp_path, SETTINGS) as journal, pytest.raises(DiskRefused, match="disk is full"):
        journal.commit(1, keys[0], tensors={"tail": torch.zeros(100_000)}, files=[], facts={})
    assert not list(tmp_path.rglob("*.part.*"))


@pytest.mark.parametrize("name", ["segments/0001.mp4", "windows/0001.safetensors", "windows/0001.json"])
@pytest.mark.parametrize("damage", ["cut", "flip", "remove"])
def test_damage_is_said_and_never_reused(tmp_path, name, damage):
    keys = make_run(tmp_path, "a", "b", "c")
    path = tmp_path / name
    content = path.read_bytes()
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(content[:-3] if damage == "cut" else content[:-3] + b"~" + content[-2:])
    with RunJournal(tmp_path, SETTINGS) as journal:
        entries, why = journal.finished(keys)
    assert len(entries) == 1
    if not (name.endswith(".json") and damage == "remove"):
        assert "Window 2 and later are made again" in why[0]


@pytest.mark.parametrize("content", ["{", '{"format": 1, "settings": {"steps": 5}}'])
def test_a_directory_of_other_settings_is_refused(tmp_path, content):
    make_run(tmp_path, "a")
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(RunDirectoryBroken, match="elete the folder"):
        RunJournal(tmp_path, SETTINGS).__enter__()
    (tmp_path / "run.json").unlink()
    with pytest.raises(RunDirectoryBroken, match="nothing says what made them"):
        RunJournal(tmp_path, SETTINGS).__enter__()


def test_half_written_files_are_swept(tmp_path):
    make_run(tmp_path, "a")
    (tmp_path / "windows" / "0001.part.json").write_text("{")
    with RunJournal(tmp_path, SETTINGS):
        assert not list(tmp_path.rglob("*.part.*"))


def test_two_runs_exclude_each_other_and_a_dead_one_does_not(tmp_path):
    program = (
        "import sys, time; from pathlib import Path;"
        "from magic141.model_patches.store.directory_lock import DirectoryLock;"
        "lock = DirectoryLock(Path(sys.argv[1])); lock.acquire(); print('held', flush=True); time.sleep(60)"
    )
    shim = Path(__file__).resolve().parents[2] / "shim"
    other = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(shim)},
    )
    try:
        assert other.stdout.readline().strip() == b"held"
        with pytest.raises(DirectoryLocked, match=f"process {other.pid}"):
            DirectoryLock(tmp_path).acquire()
    finally:
        other.kill()
        other.wait()
    lock = DirectoryLock(tmp_path)
    lock.acquire()
    lock.release()
    lock.release()


def test_a_file_system_without_locks_is_not_called_another_run(tmp_path, monkeypatch):
    def no_locks(_file):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(directory_lock, "_lock", no_locks)
    with pytest.raises(DirectoryLocked, match=r"cannot be locked .* local drive"):
        DirectoryLock(tmp_path).acquire()


def test_two_journals_in_one_process_exclude_each_other(tmp_path):
    with RunJournal(tmp_path, SETTINGS), pytest.raises(DirectoryLocked):
        RunJournal(tmp_path, SETTINGS).__enter__()
    with RunJournal(tmp_path, SETTINGS):
        pass


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EROFS, "cannot be written"),
        (errno.EACCES, "change its permissions"),
    ],
)
def test_a_refusing_disk_is_said(tmp_path, number, message):
    with pytest.raises(DiskRefused, match=message), disk_errors(tmp_path):
        raise OSError(number, "no")


def write_half(path: Path) -> None:
    path.write_text("ne")
    raise OSError(errno.ENOSPC, "full")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    write_text(path, "old")
    with pytest.raises(DiskRefused), atomic_file(path) as temporary:
        write_half(temporary)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_entries_are_plain_json(tmp_path):
    make_run(tmp_path, "a")
    document = json.loads((tmp_path / "windows" / "0000.json").read_text())
    assert set(document["entry"]["files"]) == {"segments/0000.mp4", "windows/0000.safetensors"}


def test_what_a_run_says_of_itself_is_what_every_version_reads(tmp_path):
    make_run(tmp_path, "a")
    assert json.loads((tmp_path / "run.json").read_text()) == {"format": 1, "settings": SETTINGS}
    entry = json.loads((tmp_path / "windows" / "0000.json").read_text())
    assert set(entry) == {"sha256", "entry"}
    assert set(entry["entry"]) == {"index", "key", "files", "facts"}
    assert set(entry["entry"]["files"]) == {"windows/0000.safetensors", "segments/0000.mp4"}


def test_a_windows_key_is_the_digest_of_plain_json_so_that_old_runs_go_on():
    assert (
        digest({"b": [1, 2.5], "a": "\u00e9"}) == hashlib.sha256(b'{"a":"\\u00e9","b":[1,2.5]}').hexdigest()
    )
    first, second = chain_keys({"steps": 4}, [{"prompt": "a"}, {"prompt": "b"}])
    settings = hashlib.sha256(b'{"steps":4}').hexdigest()
    assert first == hashlib.sha256(b'["%s",{"prompt":"a"}]' % settings.encode()).hexdigest()
    assert second == hashlib.sha256(b'["%s",{"prompt":"b"}]' % first.encode()).hexdigest()


def test_what_a_window_left_is_known_by_name(tmp_path):
    make_run(tmp_path, "a")
    journal = RunJournal(tmp_path, SETTINGS)
    assert journal.holds(0, "tail")
    assert not journal.holds(0, "sound")


def test_a_folder_that_is_refused_is_free_again(tmp_path):
    make_run(tmp_path, "a")
    (tmp_path / "run.json").write_text("{")
    for _ in range(2):
        with pytest.raises(RunDirectoryBroken, match=r"run\.json is damaged"):
            RunJournal(tmp_path, SETTINGS).__enter__()


def test_a_damaged_entry_is_said_before_a_changed_prompt(tmp_path):
    make_run(tmp_path, "a", "b")
    (tmp_path / "windows" / "0001.json").write_text("{}")
    with RunJournal(tmp_path, SETTINGS) as journal:
        entries, why = journal.finished(keys_for("a", "c"))
    assert (len(entries), why) == (1, ["Window 2 and later are made again: 0001.json is damaged."])

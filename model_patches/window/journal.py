"""Remember a long run on disk: which windows are finished, what made them and what the next one needs.

A run directory holds ``run.json`` (the settings all windows share), a ``lock``, and for every finished window
an entry ``windows/0003.json``, its tensors ``windows/0003.safetensors`` and whatever files the entry names.
The entry is written last, so a window counts as finished only when all of it is on disk. Every entry carries a
key that hashes its own settings and the key of the window before: a changed prompt changes the keys of its
window and of all later ones, and of no earlier one.

Entries are data: anyone can write one, its digest tells damage and nothing else. One that is not as this module
writes them counts as damaged, and what it names is left alone.
"""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from ..store.directory_lock import DirectoryLock
from ..store.disk import disk_errors
from ..store.fields import checked
from ..store.files import (
    atomic_file,
    file_sha256,
    make_subfolder,
    path_inside,
    read_json,
    remove_file,
    remove_parts,
    write_text,
)

FORMAT = 1
ROOMS = ("segments", "windows", "frames")
_SHA256 = re.compile("[0-9a-f]{64}")
_NUMBER = re.compile("[0-9]{4,}")


class RunDirectoryBroken(ValueError):
    """The run directory cannot be trusted at all."""


@dataclass(frozen=True)
class Entry:
    """A finished window.

    key: what made it (see ``chain_keys``). files: relative path -> SHA-256. facts: plain values for the report.
    """

    index: int
    key: str
    files: dict[str, str]
    facts: dict = field(default_factory=dict)


def digest(value: object) -> str:
    """Hash a JSON value; equal values give equal digests on every machine."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def chain_keys(settings: dict, windows: list[dict]) -> list[str]:
    """Return the key of every window: a hash of its own settings and of all that came before.

    Args:
        settings: what all windows share (models, size, steps, hand-over ...).
        windows: what is special to each (prompt, seed, length ...).
    """
    keys, key = [], digest(settings)
    for window in windows:
        key = digest([key, window])
        keys.append(key)
    return keys


def check_entry(entry: Entry, index: int) -> None:
    """Refuse an entry that is not one of window ``index`` as ``RunJournal.commit`` writes it.

    Raises:
        ValueError: says why.
    """
    if entry.index != index:
        raise ValueError(f"it says window {entry.index + 1}")
    if not all(_SHA256.fullmatch(text) for text in (entry.key, *entry.files.values())):
        raise ValueError("it holds a hash that is none")
    if f"windows/{index:04d}.safetensors" not in entry.files:
        raise ValueError("it does not name its tensors")
    if strange := [name for name in entry.files if not _belongs_to(index, name)]:
        raise ValueError(f"it names {strange[0]!r}")
    json.dumps(entry.facts, allow_nan=False, ensure_ascii=False).encode()


def _belongs_to(index: int, name: str) -> bool:
    """Say whether a file of this name can be window ``index``'s: only its own tensors and segment, and frames."""
    room, _, file = name.partition("/")
    stem, _, suffix = file.partition(".")
    if room == "frames":
        return re.fullmatch(r"[0-9]{6,}\.png", file) is not None
    own = stem == f"{index:04d}"
    if room == "windows":
        return own and suffix == "safetensors"
    return room == "segments" and suffix.isalnum() and (own or (index == 0 and stem == "source"))


class RunJournal:
    """The run directory of one run, locked while it is open.

    Args:
        folder: the run directory; made if missing.
        settings: what all windows share; must be the same on every opening.
        check: raises ``ValueError`` for an entry that cannot be gone on from; called for every one that is read.
    """

    def __init__(
        self, folder: Path, settings: dict, *, check: Callable[[Entry], None] = lambda entry: None
    ) -> None:
        self.folder = folder
        self.settings = settings
        self._check = check
        self._lock = DirectoryLock(folder)

    def __enter__(self) -> "RunJournal":
        with disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
            try:
                self._check_rooms()
                remove_parts(self.folder)
                self._check_settings()
            except BaseException:
                self._lock.release()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def _check_rooms(self) -> None:
        try:
            make_subfolder(self.folder, "windows")
            for room in ROOMS:
                if os.path.lexists(self.folder / room):
                    make_subfolder(self.folder, room)
        except ValueError as error:
            raise RunDirectoryBroken(f"{error} Or give this run another name.") from error

    def _check_settings(self) -> None:
        path = self.folder / "run.json"
        wanted = {"format": FORMAT, "settings": self.settings}
        if not os.path.lexists(path):
            if self._numbers():
                raise RunDirectoryBroken(
                    f"{self.folder} holds finished windows but no run.json, so nothing says what made them. "
                    "Delete the folder or give this run another name."
                )
            write_text(path, json.dumps(wanted, indent=1))
            return
        try:
            found = digest(read_json(path))
        except (OSError, ValueError, RecursionError) as error:
            raise RunDirectoryBroken(
                f"{path} is damaged ({error}). Delete the folder {self.folder} or give this run another name."
            ) from error
        if found != digest(wanted):
            raise RunDirectoryBroken(
                f"{path} does not say the settings of this run. It was changed or written by another version: "
                "delete the folder or give this run another name."
            )

    def finished(self, keys: list[str]) -> tuple[list[Entry], list[str]]:
        """Return the windows from the first on that are finished, whole and made as ``keys`` say.

        Returns:
            The entries, and sentences on why it ends where it ends (empty when simply nothing follows).
        """
        entries: list[Entry] = []
        taken: set[str] = set()
        for index, key in enumerate(keys):
            if not os.path.lexists(self._path(index, "json")):
                return entries, []
            entry = self._read_entry(index)
            problem = self._problem(index, entry, taken)
            if entry is None or problem:
                return entries, [f"Window {index + 1} and later are made again: {problem}."]
            if entry.key != key:
                return entries, [
                    f"Window {index + 1} and later are made again: its prompt or length changed."
                ]
            entries.append(entry)
            taken.update(entry.files)
        return entries, []

    def _numbers(self) -> list[int]:
        """Return the windows that have an entry, ascending; other files beside the entries are not ours."""
        stems = [path.stem for path in (self.folder / "windows").glob("*.json")]
        return sorted(int(s) for s in stems if _NUMBER.fullmatch(s) and f"{int(s):04d}" == s)

    def _read_entry(self, index: int) -> Entry | None:
        """Return the entry of a window, None where it is damaged."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            document = read_json(self._path(index, "json"))
            if document["sha256"] == digest(document["entry"]):
                entry = checked(Entry, document["entry"])
                check_entry(entry, index)
                self._check(entry)
                for name in entry.files:
                    path_inside(self.folder, name, under=ROOMS)
                return entry
        return None

    def _problem(self, index: int, entry: Entry | None, taken: set[str]) -> str:
        """Say what of a window is not whole; nothing if all of it is.

        Args:
            taken: the files of the windows before, which cannot be this one's too.
        """
        if entry is None:
            return f"{index:04d}.json is damaged"
        for name, sha256 in entry.files.items():
            file = self.folder / name
            if not file.is_file():
                return f"{name} is missing"
            if name in taken or file_sha256(file) != sha256:
                return f"{name} is damaged"
        return ""

    def _files(self, index: int) -> set[Path]:
        entry = self._read_entry(index)
        return {self.folder / name for name in entry.files} if entry else set()

    def commit(
        self, index: int, key: str, *, tensors: dict[str, Tensor], files: list[Path], facts: dict
    ) -> Entry:
        """Write a finished window down; its ``files`` must be on disk already."""
        tensor_path = self._path(index, "safetensors")
        self.forget_from(index, keep=[*files, tensor_path])
        content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
        with atomic_file(tensor_path) as temporary:
            temporary.write_bytes(content)  # save_file would hide a full disk behind an error of its own
        hashes = {
            path.relative_to(self.folder).as_posix(): file_sha256(path) for path in [tensor_path, *files]
        }
        entry = Entry(index, key, hashes, facts)
        assert all(_belongs_to(index, name) for name in hashes), hashes
        write_text(
            self._path(index, "json"), json.dumps({"sha256": digest(vars(entry)), "entry": vars(entry)})
        )
        return entry

    def forget_from(self, index: int, *, keep: Sequence[Path] = ()) -> None:
        """Remove window ``index`` and later, with their files: they no longer follow from what comes before.

        Args:
            keep: files to leave, though a window that is forgotten names them.
        """
        numbers = self._numbers()
        late = [number for number in numbers if number >= index]
        if not late:
            return
        kept = {file for number in numbers if number < index for file in self._files(number)} | set(keep)
        for number in reversed(late):
            files = self._files(number) - kept
            self._remove(self._path(number, "json"))
            for file in files:
                self._remove(file)

    def _remove(self, path: Path) -> None:
        if path.is_dir() and not path.is_symlink():
            raise RunDirectoryBroken(
                f"{path} is a folder where a file of this run belongs. Move it away, or give this run another name."
            )
        remove_file(path)

    def tensors(self, index: int) -> dict[str, Tensor]:
        """Return the tensors that window ``index`` left for the next one."""
        try:
            return load_file(self._path(index, "safetensors"))
        except SafetensorError as error:
            raise RunDirectoryBroken(f"{self._path(index, 'safetensors')} is damaged: {error}") from error

    def holds(self, index: int, name: str) -> bool:
        """Say whether window ``index`` left a tensor of this name; reads no tensor."""
        with safe_open(self._path(index, "safetensors"), framework="pt") as file:
            return name in file.keys()  # noqa: SIM118  (it cannot be iterated)

    def _path(self, index: int, suffix: str) -> Path:
        return self.folder / "windows" / f"{index:04d}.{suffix}"

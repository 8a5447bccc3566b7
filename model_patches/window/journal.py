"""Remember a long run on disk: which windows are finished, what made them and what the next one needs.

A run directory holds ``run.json`` (the settings all windows share), a ``lock``, and for every finished window
an entry ``windows/0003.json``, its tensors ``windows/0003.safetensors`` and whatever files the entry names.
The entry is written last, so a window counts as finished only when all of it is on disk. Every entry carries a
key that hashes its own settings and the key of the window before: a changed prompt changes the keys of its
window and of all later ones, and of no earlier one.

A window that is made again becomes its take (see ``takes``), and is found there when its key is asked for again. The
later ones stay where they are until they are made again too; each says what it was made after.
"""

import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from ..store.directory_lock import DirectoryLock
from ..store.disk import disk_errors
from ..store.files import atomic_file, file_sha256, make_subfolder, read_json, remove_parts, write_text
from .entries import ROOMS, Entry, RunDirectoryBroken, belongs_to, digest, write_entry
from .takes import TAKES, Takes

FORMAT = 1
_ENTRY = re.compile(r"([0-9]{4}|[1-9][0-9]{4,})\.json")
"""Other files beside the entries are not ours."""


class ChainedKeys(list[str]):
    """Keys of windows, each of which holds the key before it. specials: what is special to each window."""

    def __init__(self, keys: list[str], specials: list[dict]) -> None:
        super().__init__(keys)
        self.specials = specials


def chain_keys(settings: dict, windows: list[dict]) -> ChainedKeys:
    """Return the key of every window: a hash of its own settings and of all that came before.

    Args:
        settings: what all windows share (models, size, steps, hand-over ...).
        windows: what is special to each (prompt, seed, length ...).
    """
    keys, key = [], digest(settings)
    for window in windows:
        key = digest([key, window])
        keys.append(key)
    return ChainedKeys(keys, windows)


def key_after(keys: list[str], index: int, before: str | None) -> str:
    """Return the key of a window that is made after one of the key ``before``."""
    if before is None or not isinstance(keys, ChainedKeys):
        return keys[index]
    return digest([before, keys.specials[index]])


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
        self.takes = Takes(folder, check)
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
            for room in (*ROOMS, TAKES):
                if os.path.lexists(self.folder / room):
                    make_subfolder(self.folder, room)
        except ValueError as error:
            raise RunDirectoryBroken(f"{error} Or give this run another name.") from error

    def _check_settings(self) -> None:
        path = self.folder / "run.json"
        wanted = {"format": FORMAT, "settings": self.settings}
        if not os.path.lexists(path):
            if any(_ENTRY.fullmatch(path.name) for path in (self.folder / "windows").glob("*.json")):
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

    def finished(
        self, keys: list[str], *, before: Sequence[Entry] = (), keep_later: float | None = None
    ) -> tuple[list[Entry], list[str]]:
        """Return the windows from the first on that are finished, whole and made as ``keys`` say.

        A take that fits takes the place of a window that does not.

        Args:
            before: the first windows, which are known to be.
            keep_later: how far the start of a window may be from where it was, in delta E; None: nowhere else.

        Returns:
            The entries, and sentences on why it ends where it ends (empty when simply nothing follows).
        """
        entries = list(before)
        taken = {name for entry in entries for name in entry.files}
        while len(entries) < len(keys):
            found = self._next(len(entries), _fits(entries, keys, keep_later), taken)
            if not isinstance(found, Entry):
                which = f"Window {len(entries) + 1} {'and later are' if keep_later is None else 'is'}"
                return entries, [f"{which} made again: {found}."] * bool(found)
            entries.append(found)
            taken.update(found.files)
        return entries, []

    def _next(self, index: int, fits: list[tuple[str, str]], taken: set[str]) -> Entry | str:
        """Return the window that comes next, or say why the one in its place does not.

        Args:
            fits: of ``_fits``.
            taken: the files of the windows before, which cannot be this one's too.
        """
        here, in_old_folder = self.takes.read(index), (fits[0][0], "")
        why = _unfit(here, [*fits, in_old_folder])
        if here is not None and why is None:
            why = self.takes.damage(here, taken)
        for fit in fits:
            if here is not None and why is None and (here.key, here.after) in (fit, in_old_folder):
                return here
            for take in self.takes.of(index):
                if (take.key, take.after) == fit and self.takes.damage(take, taken, is_take=True) is None:
                    self.takes.exchange(take)
                    return take
        is_damaged = here is None and os.path.lexists(self._path(index, "json"))
        return f"{index:04d}.json is damaged" if is_damaged else why or ""

    def commit(
        self,
        index: int,
        key: str,
        *,
        tensors: dict[str, Tensor],
        files: list[Path],
        facts: dict,
        **links: Any,
    ) -> Entry:
        """Write a finished window down; its ``files`` must be on disk. What is still in its place is set aside.

        Args:
            links: what an entry says of other windows (``after``, ``followed``, ``difference``).
        """
        self.takes.set_aside(index)
        tensor_path = self._path(index, "safetensors")
        content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
        with atomic_file(tensor_path) as temporary:
            temporary.write_bytes(content)  # save_file would hide a full disk behind an error of its own
        hashes = {
            path.relative_to(self.folder).as_posix(): file_sha256(path) for path in [tensor_path, *files]
        }
        entry = Entry(index, key, hashes, facts, **links)
        assert all(belongs_to(index, name) for name in hashes), hashes
        write_entry(self.folder, entry)
        return entry

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


def _fits(entries: list[Entry], keys: list[str], keep_later: float | None) -> list[tuple[str, str]]:
    """Return the keys that the next window may have, the best first, each with the hash of what it is made after."""
    if not entries:
        return [(keys[0], "")]
    last = entries[-1]
    befores = [(last.key, last.tensors)]
    if last.followed and keep_later is not None and last.difference <= keep_later:
        befores.append((last.followed["key"], last.followed["tensors"]))
    return [(key_after(keys, len(entries), key), tensors) for key, tensors in befores]


def _unfit(entry: Entry | None, fits: list[tuple[str, str]]) -> str | None:
    """Say why a window is not gone on from; nothing if it followed from another take, None if it is."""
    if entry is None or entry.after not in [after for _, after in fits]:
        return ""
    return None if (entry.key, entry.after) in fits else "its prompt, seed, end picture or length changed"

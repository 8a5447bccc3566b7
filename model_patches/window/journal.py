"""Record a long run on disk: which windows are finished, what made them and what the next one needs.

A run directory holds ``run.json`` (the settings all windows share), a ``lock``, and for every finished window
an entry ``windows/0003.json``, its tensors ``windows/0003.safetensors`` and whatever files the entry names.
The entry is written last, so a window counts as finished only when all of it is on disk. Every entry has a key: a hash
of the window's own settings and of the key of the window before. A changed prompt changes the keys of its window and of
all later ones, and of no earlier one.

When a window is made again, the old one becomes a take (see ``takes``), where it is found if its key is asked for
again. Later windows stay in place until they are made again too; each entry says which window it continues.
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
from .entries import SUBFOLDERS, Entry, RunDirectoryBroken, belongs_to, digest, write_entry
from .takes import TAKES, Takes

FORMAT = 1
_ENTRY = re.compile(r"([0-9]{4}|[1-9][0-9]{4,})\.json")
"""Other files beside the entries are not ours."""


class ChainedKeys(list[str]):
    """Keys of windows, each a hash over the key before it. window_parts: what else is hashed, for each window."""

    def __init__(self, keys: list[str], window_parts: list[dict]) -> None:
        super().__init__(keys)
        self.window_parts = window_parts


def chain_keys(settings: dict, windows: list[dict]) -> ChainedKeys:
    """Return the key of every window: a hash of its own settings and of all that came before.

    Args:
        settings: what all windows share (models, size, steps, hand-over ...).
        windows: what each has for itself (prompt, seed, length ...).
    """
    keys, key = [], digest(settings)
    for window in windows:
        key = digest([key, window])
        keys.append(key)
    return ChainedKeys(keys, windows)


def key_after(keys: list[str], index: int, before: str | None) -> str:
    """Return the key of a window that continues one with the key ``before``."""
    if before is None or not isinstance(keys, ChainedKeys):
        return keys[index]
    return digest([before, keys.window_parts[index]])


class RunJournal:
    """The run directory of one run, locked while it is open.

    Args:
        folder: the run directory; made if missing.
        settings: what all windows share; must be the same on every opening.
        check: called for every entry that is read; raises ``ValueError`` for one that cannot be used.
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
                self._check_subfolders()
                remove_parts(self.folder)
                self._check_settings()
            except BaseException:
                self._lock.release()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def _check_subfolders(self) -> None:
        try:
            make_subfolder(self.folder, "windows")
            for name in (*SUBFOLDERS, TAKES):
                if os.path.lexists(self.folder / name):
                    make_subfolder(self.folder, name)
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
            on_disk = digest(read_json(path))
        except (OSError, ValueError, RecursionError) as error:
            raise RunDirectoryBroken(
                f"{path} is damaged ({error}). Delete the folder {self.folder} or give this run another name."
            ) from error
        if on_disk != digest(wanted):
            raise RunDirectoryBroken(
                f"{path} does not say the settings of this run. It was changed or written by another version: "
                "delete the folder or give this run another name."
            )

    def finished(
        self, keys: list[str], *, before: Sequence[Entry] = (), keep_later: float | None = None
    ) -> tuple[list[Entry], list[str]]:
        """Return the windows, from the first one on, that are finished, whole and made as ``keys`` say.

        Where the window on disk does not match but an older take does, the two are exchanged.

        Args:
            before: the first windows, which are known to match.
            keep_later: how far, in delta E, the start of a kept window may have moved; None: not at all.

        Returns:
            The entries, and a sentence on why there are no more (none if nothing else is on disk).
        """
        entries = list(before)
        taken = {name for entry in entries for name in entry.files}
        while len(entries) < len(keys):
            following = self._next(len(entries), _wanted(entries, keys, keep_later), taken)
            if not isinstance(following, Entry):
                windows = f"Window {len(entries) + 1} {'and later are' if keep_later is None else 'is'}"
                return entries, [f"{windows} made again: {following}."] if following else []
            entries.append(following)
            taken.update(following.files)
        return entries, []

    def _next(self, index: int, wanted: list[tuple[str, str]], taken: set[str]) -> Entry | str:
        """Return the next window, or why the one on disk cannot be used (empty if that needs no words).

        Args:
            wanted: from ``_wanted``.
            taken: the files of the windows before, which cannot be this one's too.
        """
        current, in_old_folder = self.takes.read(index), (wanted[0][0], "")
        fault = _mismatch(current, [*wanted, in_old_folder])
        if current is not None and fault is None:
            fault = self.takes.damage(current, taken)
        for pair in wanted:
            if (
                current is not None
                and fault is None
                and (current.key, current.after) in (pair, in_old_folder)
            ):
                return current
            for take in self.takes.older(index):
                if (take.key, take.after) == pair and self.takes.damage(take, taken, is_take=True) is None:
                    self.takes.exchange(take)
                    return take
        is_damaged = current is None and os.path.lexists(self._path(index, "json"))
        return f"{index:04d}.json is damaged" if is_damaged else fault or ""

    def commit(
        self,
        index: int,
        key: str,
        *,
        tensors: dict[str, Tensor],
        files: list[Path],
        facts: dict,
        **relations: Any,
    ) -> Entry:
        """Record a finished window, whose ``files`` must be on disk; the window that was in its place becomes a take.

        Args:
            relations: what its entry says about other windows (``after``, ``followed``, ``difference``).
        """
        self.takes.set_aside(index)
        tensor_path = self._path(index, "safetensors")
        content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
        with atomic_file(tensor_path) as temporary:
            temporary.write_bytes(content)  # save_file would hide a full disk behind an error of its own
        hashes = {
            path.relative_to(self.folder).as_posix(): file_sha256(path) for path in [tensor_path, *files]
        }
        entry = Entry(index, key, hashes, facts, **relations)
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
        """Return whether window ``index`` left a tensor of this name, without reading tensors."""
        with safe_open(self._path(index, "safetensors"), framework="pt") as file:
            return name in file.keys()  # noqa: SIM118  (it cannot be iterated)

    def _path(self, index: int, suffix: str) -> Path:
        return self.folder / "windows" / f"{index:04d}.{suffix}"


def _wanted(entries: list[Entry], keys: list[str], keep_later: float | None) -> list[tuple[str, str]]:
    """Return what the entry of the next window may say as (``key``, ``after``), the best pair first."""
    if not entries:
        return [(keys[0], "")]
    last = entries[-1]
    predecessors = [(last.key, last.tensors)]
    if last.followed and keep_later is not None and last.difference <= keep_later:
        predecessors.append((last.followed["key"], last.followed["tensors"]))
    return [(key_after(keys, len(entries), key), tensors) for key, tensors in predecessors]


def _mismatch(entry: Entry | None, wanted: list[tuple[str, str]]) -> str | None:
    """Return why a window on disk is not wanted, None if it is; empty if it is missing or continues another take."""
    if entry is None or entry.after not in [after for _, after in wanted]:
        return ""
    return None if (entry.key, entry.after) in wanted else "its prompt, seed, end picture or length changed"

"""Remember a long run on disk: which windows are finished, what made them and what the next one needs.

A run directory holds ``run.json`` (the settings all windows share), a ``lock``, and for every finished window
an entry ``windows/0003.json``, its tensors ``windows/0003.safetensors`` and whatever files the entry names.
The entry is written last, so a window counts as finished only when all of it is on disk. Every entry carries a
key that hashes its own settings and the key of the window before: a changed prompt changes the keys of its
window and of all later ones, and of no earlier one.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from .directory_lock import DirectoryLock
from .files import atomic_file, disk_errors, file_sha256, remove_parts, write_text

FORMAT = 1


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


class RunJournal:
    """The run directory of one run, locked while it is open.

    Args:
        folder: the run directory; made if missing.
        settings: what all windows share; must be the same on every opening.
    """

    def __init__(self, folder: Path, settings: dict) -> None:
        self.folder = folder
        self.settings = settings
        self._lock = DirectoryLock(folder)

    def __enter__(self) -> "RunJournal":
        with disk_errors(self.folder):
            (self.folder / "windows").mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
            try:
                remove_parts(self.folder)
                self._check_settings()
            except BaseException:
                self._lock.release()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def _check_settings(self) -> None:
        path = self.folder / "run.json"
        wanted = {"format": FORMAT, "settings": self.settings}
        if not path.exists():
            if any((self.folder / "windows").glob("*.json")):
                raise RunDirectoryBroken(
                    f"{self.folder} holds finished windows but no run.json, so nothing says what made them. "
                    "Delete the folder or give this run another name."
                )
            write_text(path, json.dumps(wanted, indent=1))
            return
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise RunDirectoryBroken(
                f"{path} is damaged ({error}). Delete the folder {self.folder} or give this run another name."
            ) from error
        if digest(found) != digest(wanted):
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
        for index, key in enumerate(keys):
            path = self._path(index, "json")
            if not path.exists():
                return entries, []
            entry, problem = self._read(path)
            if entry is not None and entry.key != key:
                return entries, [
                    f"Window {index + 1} and later are made again: its prompt or length changed."
                ]
            if entry is None:
                return entries, [f"Window {index + 1} and later are made again: {problem}."]
            entries.append(entry)
        return entries, []

    def _read_entry(self, path: Path) -> tuple[Entry | None, str]:
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            if document["sha256"] == digest(document["entry"]):
                return Entry(**document["entry"]), ""
        except (ValueError, KeyError, TypeError):
            pass
        return None, f"{path.name} is damaged"

    def _read(self, path: Path) -> tuple[Entry | None, str]:
        entry, problem = self._read_entry(path)
        for name, sha256 in (entry.files if entry else {}).items():
            file = self.folder / name
            if not file.is_file():
                return None, f"{name} is missing"
            if file_sha256(file) != sha256:
                return None, f"{name} is damaged"
        return entry, problem

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
        write_text(
            self._path(index, "json"), json.dumps({"sha256": digest(vars(entry)), "entry": vars(entry)})
        )
        return entry

    def forget_from(self, index: int, *, keep: Sequence[Path] = ()) -> None:
        """Remove window ``index`` and later, with their files: they no longer follow from what comes before.

        Args:
            keep: files to leave, though a window that is forgotten names them.
        """
        for path in sorted((self.folder / "windows").glob("*.json"), reverse=True):
            if int(path.stem) < index:
                continue
            entry, _ = self._read_entry(path)
            path.unlink()
            for file in {self.folder / name for name in (entry.files if entry else {})} - set(keep):
                file.unlink(missing_ok=True)

    def tensors(self, index: int) -> dict[str, Tensor]:
        """Return the tensors that window ``index`` left for the next one."""
        try:
            return load_file(self._path(index, "safetensors"))
        except SafetensorError as error:
            raise RunDirectoryBroken(f"{self._path(index, 'safetensors')} is damaged: {error}") from error

    def _path(self, index: int, suffix: str) -> Path:
        return self.folder / "windows" / f"{index:04d}.{suffix}"

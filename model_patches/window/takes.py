"""Keep the older take of a window that is made again: its files move to a folder of their own, and back.

The take of window 3 lies in ``takes/0003-1a2b3c4d``, named after the hash of its tensors, in subfolders like the run's
own. Files move first and the entry last. A file that is not in the take's folder is looked up in the run's, where its
hash decides whether it is the same file. After a kill during a move, a window is whole in one of the two places or
forgotten.
"""

import os
import shutil
from collections.abc import Callable, Container
from dataclasses import replace
from pathlib import Path, PurePath

from ..store.disk import disk_errors
from ..store.files import file_sha256, make_subfolder, remove_file, replace_or_keep, stays_inside
from .entries import Entry, RunDirectoryBroken, entry_name, read_entry, write_entry

TAKES = "takes"


class Takes:
    """The windows in a run's folder and their older takes.

    Args:
        check: see ``read_entry``.
    """

    def __init__(self, folder: Path, check: Callable[[Entry], None]) -> None:
        self.folder = folder
        self._check = check

    def read(self, index: int) -> Entry | None:
        """Return the entry of a window, None where there is none or it is damaged."""
        return read_entry(self.folder, index, self._check)

    def older(self, index: int) -> list[Entry]:
        """Return the older takes of a window, newest first."""
        folders = [
            path for path in self._folders(index) if stays_inside(self.folder, path / entry_name(index))
        ]
        takes = [read_entry(folder, index, self._check) for folder in folders]
        return [
            take for take, path in zip(takes, folders, strict=True) if take and self.folder_of(take) == path
        ]

    def folder_of(self, take: Entry) -> Path:
        """Return the folder of a take."""
        return self.folder / TAKES / f"{take.index:04d}-{take.tensors[:8]}"

    def _folders(self, index: int) -> list[Path]:
        folders = [path for path in self.folder.glob(f"{TAKES}/{index:04d}-*") if path.is_dir()]
        return sorted(folders, key=lambda folder: -folder.stat().st_mtime_ns)

    def damage(self, entry: Entry, taken: Container[str] = (), *, is_take: bool = False) -> str | None:
        """Return what is missing or damaged of a window or take; None if nothing is.

        Args:
            taken: files that belong to other windows.
        """
        for name, sha256 in entry.files.items():
            aside = self.folder_of(entry) / name
            file = aside if is_take and aside.is_file() else self.folder / name
            if not file.is_file():
                return f"{name} is missing"
            if name in taken or file_sha256(file) != sha256:
                return f"{name} is damaged"
        return None

    def set_aside(self, index: int) -> None:
        """Make room for a new window: the one in its place becomes a take, and older takes are removed."""
        if (entry := self._move_out(index)) is not None:
            self._remove_all_but(entry)

    def exchange(self, take: Entry) -> None:
        """Put a take in the place of its window, which becomes a take."""
        previous = self._move_out(take.index)
        with disk_errors(self.folder):
            self._move([*take.files, entry_name(take.index)], self.folder_of(take), self.folder)
        shutil.rmtree(self.folder_of(take), ignore_errors=True)
        if previous is not None:
            self._remove_all_but(previous)

    def _move_out(self, index: int) -> Entry | None:
        """Move a window to the folder of its take and return its entry; None where there is no whole window."""
        self._completed_entry(index + 1)
        entry = self._completed_entry(index)
        if entry is None or self.damage(entry):
            self._forget(index)
            return None
        take_folder = self.folder_of(entry)
        own_files = [name for name in entry.files if PurePath(name).stem == f"{index:04d}"]
        with disk_errors(self.folder):
            for name in ("windows", "segments"):
                make_subfolder(self.folder, (take_folder / name).relative_to(self.folder).as_posix())
            self._move([*own_files, entry_name(index)], self.folder, take_folder)
        return entry

    def _move(self, names: list[str], source: Path, target: Path) -> None:
        for name in names:
            if os.path.lexists(source / name):
                replace_or_keep(source / name, target / name)

    def _remove_all_but(self, kept: Entry) -> None:
        for folder in self._folders(kept.index):
            if folder != self.folder_of(kept):
                shutil.rmtree(folder, ignore_errors=True)  # one that is in use goes the next time

    def _completed_entry(self, index: int) -> Entry | None:
        """Return the entry of a window; one of an older version is first written with the window it continues."""
        entry = self.read(index)
        if entry is None or entry.after or index == 0:
            return entry
        if (before := self.read(index - 1)) is None:
            self._forget(index)
            return None
        entry = replace(entry, after=before.tensors)
        write_entry(self.folder, entry)
        return entry

    def _forget(self, index: int) -> None:
        """Remove the entry of a window; its files will be overwritten."""
        path = self.folder / entry_name(index)
        if path.is_dir() and not path.is_symlink():
            raise RunDirectoryBroken(
                f"{path} is a folder where a file of this run belongs. Move it away, or give this run another name."
            )
        remove_file(path)

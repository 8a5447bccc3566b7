"""Keep the older take of a window that is made again: its files move to a folder of their own, and back.

The take of window 3 lies in ``takes/0003-1a2b3c4d``, named after the hash of its tensors, in rooms like the run's own.
Files move first and the entry last. What is not with the entry of a take is looked up in the run, and its hash says
whether it is the one. After a kill in the middle of a move, a window is whole in one of the two places or forgotten.
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
        check: of ``read_entry``.
    """

    def __init__(self, folder: Path, check: Callable[[Entry], None]) -> None:
        self.folder = folder
        self._check = check

    def read(self, index: int) -> Entry | None:
        """Return the entry of a window, None where there is none or it is damaged."""
        return read_entry(self.folder, index, self._check)

    def of(self, index: int) -> list[Entry]:
        """Return the older takes of a window, newest first."""
        rooms = [room for room in self._rooms(index) if stays_inside(self.folder, room / entry_name(index))]
        takes = [read_entry(room, index, self._check) for room in rooms]
        return [take for take, room in zip(takes, rooms, strict=True) if take and self.room(take) == room]

    def room(self, take: Entry) -> Path:
        """Return the folder of a take."""
        return self.folder / TAKES / f"{take.index:04d}-{take.tensors[:8]}"

    def _rooms(self, index: int) -> list[Path]:
        rooms = self.folder.glob(f"{TAKES}/{index:04d}-*")
        return sorted((room for room in rooms if room.is_dir()), key=lambda room: -room.stat().st_mtime_ns)

    def damage(self, entry: Entry, taken: Container[str] = (), *, is_take: bool = False) -> str | None:
        """Say what of a window or take is not whole; None if all of it is.

        Args:
            taken: files that cannot be this one's.
        """
        for name, sha256 in entry.files.items():
            aside = self.room(entry) / name
            file = aside if is_take and aside.is_file() else self.folder / name
            if not file.is_file():
                return f"{name} is missing"
            if name in taken or file_sha256(file) != sha256:
                return f"{name} is damaged"
        return None

    def set_aside(self, index: int) -> None:
        """Make room for a window that is made: the one in its place becomes its take, an older take is removed."""
        if (entry := self._move_out(index)) is not None:
            self._remove_all_but(entry)

    def exchange(self, take: Entry) -> None:
        """Put a take in its place; the window that is there becomes the take."""
        before = self._move_out(take.index)
        with disk_errors(self.folder):
            self._move([*take.files, entry_name(take.index)], self.room(take), self.folder)
        shutil.rmtree(self.room(take), ignore_errors=True)
        if before is not None:
            self._remove_all_but(before)

    def _move_out(self, index: int) -> Entry | None:
        """Move a window to its take and return it; None where there is none that is whole."""
        self._say_what_it_follows(index + 1)
        entry = self._say_what_it_follows(index)
        if entry is None or self.damage(entry):
            self._forget(index)
            return None
        room = self.room(entry)
        own = [name for name in entry.files if PurePath(name).stem == f"{index:04d}"]
        with disk_errors(self.folder):
            for subroom in ("windows", "segments"):
                make_subfolder(self.folder, (room / subroom).relative_to(self.folder).as_posix())
            self._move([*own, entry_name(index)], self.folder, room)
        return entry

    def _move(self, names: list[str], source: Path, target: Path) -> None:
        for name in names:
            if os.path.lexists(source / name):
                replace_or_keep(source / name, target / name)

    def _remove_all_but(self, kept: Entry) -> None:
        for room in self._rooms(kept.index):
            if room != self.room(kept):
                shutil.rmtree(room, ignore_errors=True)  # one that is in use goes the next time

    def _say_what_it_follows(self, index: int) -> Entry | None:
        """Return the entry of a window, with what it was made after where an older version has not written that."""
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
        """Remove the entry of a window; what it names is overwritten."""
        path = self.folder / entry_name(index)
        if path.is_dir() and not path.is_symlink():
            raise RunDirectoryBroken(
                f"{path} is a folder where a file of this run belongs. Move it away, or give this run another name."
            )
        remove_file(path)

"""Merge what an image index holds with what lies in its folder: both are sorted by path, one row of each in memory."""

from collections.abc import Iterator
from dataclasses import dataclass

from ..store.walk import PictureFile, path_order
from .index import Row


@dataclass(frozen=True)
class Item:
    """A picture in the folder and, if it is known, its row in the old index."""

    file: PictureFile
    old: Row | None = None
    position: int = -1

    @property
    def unchanged(self) -> bool:
        """Whether size and time of the file are those of the row."""
        file, old = self.file, self.old
        return old is not None and (file.size, file.mtime_ns) == (old.size, old.mtime_ns)


def merge(rows: Iterator[Row], files: Iterator[PictureFile]) -> Iterator[tuple[Item | None, int]]:
    """Merge old rows and present files, both sorted by path.

    Yields:
        (picture, old rows used up so far) for every file, and (None, ...) for every old row whose file is gone.
    """
    cursor = 0
    row, file = next(rows, None), next(files, None)
    while row or file:
        if row and file and row.path == file.path:
            cursor += 1
            yield Item(file, row, cursor - 1), cursor
            row, file = next(rows, None), next(files, None)
        elif file and (row is None or path_order(file.path) < path_order(row.path)):
            yield Item(file), cursor
            file = next(files, None)
        else:
            cursor += 1
            yield None, cursor
            row = next(rows, None)

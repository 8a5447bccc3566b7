"""Change an image index: collect changes, commit them in one step, remove files that no longer belong to it."""

import contextlib
import os
import re
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import BinaryIO

import torch
from torch import Tensor

from ..store.cancel import until_canceled
from ..store.disk import disk_errors
from ..store.files import atomic_file
from .index import DATABASE, ImageIndex, copy_database, new_vectors_name
from .records import VECTORS, Row

SHARE_OF_TIME = 0.05
"""Commits may take this share of a build: a killed build loses little, and a large one is hardly slowed."""
ROWS_AT_ONCE = 8192
OLD_FILES = re.compile(r"index\.json|shard-[0-9a-f]+(\.part)?\.(safetensors|jsonl)")
"""Files of the first format."""


class IndexWriter:
    """Collects changes of an index until the next commit; use it while you hold the folder's lock.

    Attributes:
        index: the old rows with the changes; the files on disk are as the last commit left them.
    """

    def __init__(self, old: ImageIndex, clock: Callable[[], float] = time.monotonic) -> None:
        self.index = ImageIndex(old.directory, old.about, copy_database(old.database))
        self._vectors, self._clock = old.vectors, clock
        self._file: BinaryIO | None = None
        self._seen: set[int] = set()
        self._committed_at, self._commit_took = clock(), 0.0
        self._at_start = self._at_commit = self.index.database.total_changes

    @property
    def changed(self) -> bool:
        """Whether the index differs from the old one, committed or not."""
        return self.index.database.total_changes > self._at_start

    def keep(self, row: Row) -> None:
        """Keep a row of the index as it is."""
        self._seen.add(row.position)

    def put(self, row: Row) -> None:
        """Add a row whose vector is already there, or replace the row with the same path."""
        values = row.to_sql()
        self.index.database.execute(f"REPLACE INTO pictures VALUES ({', '.join('?' * len(values))})", values)
        self._seen.add(row.position)

    def add(self, rows: list[Row], vectors: Tensor) -> None:
        """Add rows with their vectors (n, D), length 1, or replace the rows with the same paths."""
        about = self.index.about
        data = vectors.to(torch.float16).contiguous().numpy().astype("<f2").tobytes()
        assert len(data) == len(rows) * about.bytes_per_vector
        with disk_errors(self.index.directory):
            self._open().write(data)
        for number, row in enumerate(rows, start=about.count):
            self.put(replace(row, position=number))
        self.index.about = replace(about, count=about.count + len(rows), crc32=zlib.crc32(data, about.crc32))

    def remove_unseen(self) -> int:
        """Remove the rows that were neither kept, put nor added; return how many."""
        positions = self.index.database.execute("SELECT position FROM pictures").fetchall()
        unseen = [position for position in positions if position[0] not in self._seen]
        self.index.database.executemany("DELETE FROM pictures WHERE position = ?", unseen)
        return len(unseen)

    def commit_if_due(self) -> None:
        """Commit if there are changes and commits have not taken too large a share of the time."""
        waited = self._clock() - self._committed_at
        waiting = self.index.database.total_changes > self._at_commit
        if waiting and waited * SHARE_OF_TIME >= self._commit_took:
            self.commit(complete=False)

    def commit(self, *, complete: bool) -> None:
        """Commit the changes in one step, then remove the files that no longer belong to the index.

        Raises:
            DiskRefused: the disk is full or cannot be written; the index is what it was.
        """
        started = self._clock()
        if complete and 2 * len(self.index) < self.index.about.count:
            self._compact()
        index, database = self.index, self.index.database
        with disk_errors(index.directory):
            if self._file is not None:
                self._file.flush()
                os.fsync(self._file.fileno())
        index.about = replace(index.about, complete=complete)
        database.execute("DELETE FROM about")
        database.execute("INSERT INTO about VALUES (?)", (index.about.to_json(),))
        database.commit()
        with atomic_file(index.directory / DATABASE) as temporary:
            temporary.write_bytes(database.serialize())
        self._at_commit = database.total_changes
        self.remove_files(VECTORS)
        if complete:
            self.remove_files(OLD_FILES)
        self._committed_at = self._clock()
        self._commit_took = self._committed_at - started

    def remove_files(self, names: re.Pattern) -> None:
        """Remove the files whose names match, except the vectors in use."""
        for path in self.index.directory.iterdir():
            if names.fullmatch(path.name) and path.name != self.index.about.vectors:
                # the next commit tries again to remove one that a reader has mapped (Windows)
                with contextlib.suppress(OSError):
                    path.unlink()

    def close(self) -> None:
        """Close the file of the vectors; changes that are not committed are lost."""
        if self._file is not None:
            self._file.close()

    def _open(self) -> BinaryIO:
        """Open the file of the vectors, positioned after the committed ones: an interrupted run may have left more."""
        if self._file is None:
            path = self.index.directory / self.index.about.vectors
            self._file = path.open("r+b" if self.index.about.count else "xb")
            self._file.seek(self.index.about.count * self.index.about.bytes_per_vector)
        return self._file

    def _compact(self) -> None:
        """Write the vectors that still belong to a picture into a new file."""
        self.close()
        rows = list(self.index.rows())
        if self._file is not None:  # it has grown since it was mapped
            self._vectors = ImageIndex(self.index.directory, self.index.about, self.index.database).vectors
        self._file = None
        self.index.about = replace(self.index.about, vectors=new_vectors_name(), count=0, crc32=0)
        self.index.database.execute("DELETE FROM pictures")
        for first in until_canceled(range(0, len(rows), ROWS_AT_ONCE)):
            part = rows[first : first + ROWS_AT_ONCE]
            self.add(part, self._vectors[[row.position for row in part]])

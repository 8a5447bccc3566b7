"""Keep embeddings of a folder's pictures on disk: one SQLite file, and the vectors beside it.

Layout of an index folder:
    index.sqlite      "about": what the index is; "pictures": path, hash, size, times and number of the vector
    vectors-<x>.f16   (count, D) float16, little-endian, length 1
The SQLite file is read whole and replaced whole: that is the commit. So a reader sees one state, needs no lock (network
drives often have none) and holds no file open that Windows could not replace. Vectors are only appended: the search
skips those of removed pictures, and once they are the majority the file of vectors is written anew.
"""

import functools
import secrets
import sqlite3
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..store.cancel import stop_if_canceled
from ..store.files import path_inside
from .records import About, Model, Row
from .search import top_k

DATABASE = "index.sqlite"
MAX_DATABASE_BYTES = 1 << 30
"""What SQLite keeps in memory at most; enough for five million pictures."""
SCHEMA = (
    "CREATE TABLE about (value TEXT NOT NULL)",
    "CREATE TABLE pictures (path BLOB PRIMARY KEY, sha256 TEXT NOT NULL, size INTEGER NOT NULL, "
    "mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL, position INTEGER NOT NULL UNIQUE, "
    "crc32 INTEGER NOT NULL) WITHOUT ROWID",
)
_COLUMNS = "path, sha256, size, mtime_ns, ctime_ns, position, crc32"


class ImageIndex:
    """An index, read only.

    Attributes:
        directory: where it lives.
        about: its description.
        database: its SQLite file, in memory.
    """

    def __init__(self, directory: Path, about: About, database: sqlite3.Connection) -> None:
        self.directory, self.about, self.database = directory, about, database
        self.folder, self.model = about.folder, Model(about.model_name, about.probe)

    @classmethod
    def empty(cls, directory: Path, *, folder: str, model: Model) -> "ImageIndex":
        """Return an index without pictures; nothing is on disk yet."""
        database = sqlite3.connect(":memory:", check_same_thread=False)
        for statement in SCHEMA:
            database.execute(statement)
        return cls(directory, About(folder, model.name, model.probe, vectors=new_vectors_name()), database)

    @classmethod
    def open(cls, directory: Path) -> "ImageIndex":
        """Open what the last commit left.

        Raises:
            FileNotFoundError: there is no index.
            ValueError: the files are damaged or of a newer version.
        """
        with damage_errors(directory):
            database = _load(path_inside(directory, DATABASE))
            [[text]] = database.execute("SELECT value FROM about").fetchall()
            index = cls(directory, About.from_json(text), database)
            index._check_vectors()
            return index

    def __len__(self) -> int:
        return self.database.execute("SELECT count(*) FROM pictures").fetchone()[0]

    @cached_property
    def vectors(self) -> Tensor:
        """All vectors, (count, D) float16, memory-mapped, those of removed pictures included."""
        shape = (self.about.count, len(self.about.probe))
        if not self.about.count:
            return torch.empty(shape, dtype=torch.float16)
        mapped = np.memmap(self.directory / self.about.vectors, "<f2", "c", shape=shape)
        return torch.from_numpy(mapped if sys.byteorder == "little" else mapped.astype("=f2"))

    @cached_property
    def gone(self) -> Tensor | None:
        """Mask (count,) of the vectors of removed pictures; None if there are none."""
        if len(self) == self.about.count:
            return None
        mask = torch.ones(self.about.count, dtype=torch.bool)
        positions = self.database.execute("SELECT position FROM pictures")
        mask[torch.tensor([position for (position,) in positions], dtype=torch.int64)] = False
        return mask

    def rows(self) -> Iterator[Row]:
        """Yield every row in the order of the vectors.

        Raises:
            ValueError: the files are damaged.
        """
        with damage_errors(self.directory):
            query = f"SELECT {_COLUMNS} FROM pictures ORDER BY position"
            yield from map(Row.from_sql, self.database.execute(query))

    def row_of(self, path: str) -> Row | None:
        """Return the row of a picture, if it has one."""
        with damage_errors(self.directory):
            key = (path.encode("utf-8", "surrogatepass"),)
            columns = self.database.execute(f"SELECT {_COLUMNS} FROM pictures WHERE path = ?", key).fetchone()
            return Row.from_sql(columns) if columns else None

    def search(self, query: Tensor, *, k: int) -> tuple[Tensor, Tensor]:
        """Return the k best cosines and their positions, best first; see `search.top_k`."""
        return top_k(query, self.vectors, k=min(k, len(self)) or k, left_out=self.gone)

    def rows_at(self, positions: list[int]) -> list[Row]:
        """Return the rows with these positions, in the order asked for."""
        with damage_errors(self.directory):
            query = f"SELECT {_COLUMNS} FROM pictures WHERE position = ?"
            rows = [self.database.execute(query, (position,)).fetchone() for position in positions]
            if None in rows:
                raise ValueError("a vector belongs to no picture")
            return [Row.from_sql(row) for row in rows]

    def _check_vectors(self) -> None:
        path = path_inside(self.directory, self.about.vectors)
        size, wanted = path.stat().st_size, self.about.count * self.about.bytes_per_vector
        low, high, num = self.database.execute(
            "SELECT min(position), max(position), count(*) FROM pictures"
        ).fetchone()
        if not path.is_file() or size < wanted:
            raise ValueError(f"{path.name} holds {size} bytes, {wanted} expected")
        if not num or low < 0 or high >= self.about.count:
            raise ValueError(f"its {num} pictures have vectors {low} to {high} of {self.about.count}")
        if file_crc32(path, wanted, path.stat().st_mtime_ns) != self.about.crc32:
            raise ValueError(f"{path.name} has another checksum than when it was written")


def index_stamp(directory: Path) -> int | None:
    """Return a number that changes with every commit, or None if there is no index."""
    path = directory / DATABASE
    return path.stat().st_mtime_ns if path.is_file() else None


def new_vectors_name() -> str:
    """Return a name for a new file of vectors."""
    return f"vectors-{secrets.token_hex(8)}.f16"


@functools.lru_cache(maxsize=8)
def file_crc32(path: Path, num_bytes: int, _mtime_ns: int) -> int:
    """Return the checksum of the first bytes of a file, which is read again only when its time has changed."""
    checksum = 0
    with path.open("rb") as file:
        while num_bytes and (data := file.read(min(num_bytes, 1 << 22))):
            checksum, num_bytes = zlib.crc32(data, checksum), num_bytes - len(data)
            stop_if_canceled()
    return checksum


def copy_database(database: sqlite3.Connection) -> sqlite3.Connection:
    """Return a copy in memory."""
    copy = sqlite3.connect(":memory:", check_same_thread=False)
    database.backup(copy)
    return copy


def _load(path: Path) -> sqlite3.Connection:
    """Read an SQLite file into memory, so that nothing in it is run and no other file is touched.

    SQLite itself would obey a journal beside the file, which may name other files to delete.
    """
    if not path.is_file() and path.exists():
        raise ValueError(f"{path.name} is not a plain file")
    size = path.stat().st_size
    if not 0 < size <= MAX_DATABASE_BYTES:
        raise ValueError(f"{path.name} holds {size} bytes, 1 to {MAX_DATABASE_BYTES} expected")
    database = sqlite3.connect(":memory:", check_same_thread=False)
    database.execute("PRAGMA trusted_schema = OFF")
    database.deserialize(path.read_bytes())
    statements = database.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")
    if sorted(sql for (sql,) in statements) != sorted(SCHEMA):  # no view, no trigger, nothing that could run
        raise ValueError(f"{path.name} has other tables than an image index")
    return database


@contextmanager
def damage_errors(directory: Path) -> Iterator[None]:
    """Turn the errors that damaged files cause into one message.

    Raises:
        FileNotFoundError: there is no index.
        ValueError: the files are damaged.
    """
    try:
        yield
    except FileNotFoundError as error:
        if Path(error.filename or "").name != DATABASE:
            raise ValueError(_damaged(directory, error)) from None
        raise FileNotFoundError(
            f"There is no image index '{directory.name}'. Run Build Image Index with this name first."
        ) from None
    except (OSError, ValueError, TypeError, RecursionError, sqlite3.Error) as error:
        raise ValueError(_damaged(directory, error)) from None


def _damaged(directory: Path, reason: Exception) -> str:
    return (
        f"The image index '{directory.name}' is damaged ({reason}). Turn on 'rebuild' in Build Image Index, or delete "
        f"its folder {directory}."
    )

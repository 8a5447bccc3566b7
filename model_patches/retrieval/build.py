"""Bring an image index up to date with its folder, embedding only what is new or changed.

Both the index and the listing of the folder are sorted by path, so one merge tells kept, changed, new and deleted
pictures with a few rows in memory. Shards in which nothing changed are kept as they are. After every shard the index
is committed: an interrupted run loses at most one shard of work and never leaves a half-written index.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor

from ..store.pictures import PictureError, decode, read_bytes, sha256_of
from ..store.walk import walk_pictures
from . import search as retrieval
from .index import ImageIndex, Row, Shard, write_shard
from .merge import Item, merge
from .report import Report

ROWS_PER_SHARD = 8192
MIN_ROWS_PER_SHARD = 1024
READERS = 4

Progress = Callable[[int, int], None]


class Embedder(Protocol):
    """What makes a vector of a picture."""

    image_size: int

    def prepare(self, image: Image.Image) -> Tensor:
        """Return a picture as the model wants it, (S, S, 3) uint8; called in several threads."""
        ...

    def embed_prepared(self, images: Tensor) -> Tensor:
        """Return vectors (N, D) of prepared pictures (N, S, S, 3)."""
        ...


def build_index(
    old: ImageIndex,
    folder: Path,
    embedder: Embedder,
    *,
    batch_size: int = 32,
    on_progress: Progress | None = None,
) -> tuple[ImageIndex, Report]:
    """Return the index of a folder as it is now, committed, and what was done.

    Args:
        old: the index so far (without shards for a first build); its directory and model are used.
        folder: the folder to index, with all its subfolders.
        embedder: makes the vectors; must be the model of `old`.
        batch_size: pictures embedded at once.
        on_progress: called with (pictures done, pictures in all); may raise to stop.

    Raises:
        ValueError: the folder holds no picture, or none that can be read. The old index is left as it was.
    """
    total = sum(1 for _ in walk_pictures(folder))
    if not total:
        raise ValueError(f"No picture in '{old.folder}' or below it. Put .png, .jpg or .webp files there.")
    build = _Build(old, folder, embedder, batch_size, total, on_progress or (lambda done, total: None))
    return build.run(), build.report


class _Build:
    """One run: `pending` holds what is merged but not yet in a shard; it is empty at every commit."""

    def __init__(
        self,
        old: ImageIndex,
        folder: Path,
        embedder: Embedder,
        batch_size: int,
        total: int,
        on_progress: Progress,
    ) -> None:
        self.old, self.folder, self.embedder = old, folder, embedder
        self.batch_size, self.total, self.on_progress = batch_size, total, on_progress
        self.report = Report()
        self.shards: list[Shard] = []
        self.pending: list[Item] = []
        self.num_unread = 0
        self.num_done = 0
        self.dirty = not old.complete

    def run(self) -> ImageIndex:
        _ = self.old.vectors  # mapped now: a commit removes the files of old shards that are used up
        ends = dict(_ends(self.old.shards))
        cursor = 0
        for item, cursor in merge(self.old.rows(), walk_pictures(self.folder, self.report.skip)):
            self._take(item)
            if item is not None and item.position == cursor - 1 and cursor in ends:
                self._end_of_shard(ends[cursor], cursor)
            elif len(self.pending) >= 2 * ROWS_PER_SHARD or self.num_unread >= ROWS_PER_SHARD:
                self._flush(cursor)
        if self.dirty or self.num_unread or not self.old.shards:
            self._flush(cursor)
        else:
            self.report.kept += len(self.pending)
            self._progress(len(self.pending))
        if not self.dirty and self.old.shards:
            return self.old
        if not self.shards:
            path, reason = next(iter(self.report.skipped), ("", "no reason known"))
            raise ValueError(
                f"None of the {self.total} pictures in '{self.old.folder}' can be read. {path}: {reason}."
            )
        return self._commit(cursor, complete=True)

    def _take(self, item: Item | None) -> None:
        if item is None:
            self.report.removed += 1
            self.dirty = True
            return
        self.pending.append(item)
        self.num_unread += not item.unchanged

    def _end_of_shard(self, shard: Shard, cursor: int) -> None:
        untouched = (
            not self.num_unread
            and len(self.pending) == shard.count
            and self.pending[0].position == cursor - shard.count
        )
        if untouched and shard.count >= MIN_ROWS_PER_SHARD:
            self.shards.append(shard)
            self.report.kept += shard.count
            self._progress(len(self.pending))
            self.pending = []
        elif len(self.pending) >= MIN_ROWS_PER_SHARD:
            self._flush(cursor)

    def _flush(self, cursor: int) -> None:
        """Write what is pending as a new shard and commit: new shards, then the old rows not yet reached.

        An old shard that turns out untouched (all that is new beside it is unreadable) is kept as it is.
        """
        kept = [item for item in self.pending if item.unchanged]
        vectors = dict(zip((item.file.path for item in kept), self._old_vectors(kept), strict=True))
        rows = {item.file.path: item.old for item in kept if item.old}
        self.report.kept += len(kept)
        self._progress(len(kept))
        self._read_and_embed([item for item in self.pending if not item.unchanged], rows, vectors)
        used = [item for item in self.pending if item.file.path in rows]
        self.pending, self.num_unread = [], 0
        if shard := self._old_shard_of(used):
            self.shards.append(shard)
        elif used:
            paths = [item.file.path for item in used]
            stacked = torch.stack([vectors[path] for path in paths])
            self.shards.append(write_shard(self.old.directory, [rows[path] for path in paths], stacked))
            self.dirty = True
            self._commit(cursor, complete=False)

    def _old_shard_of(self, items: list[Item]) -> Shard | None:
        """Return the old shard that holds just these pictures, or None."""
        if not items or not all(item.unchanged for item in items):
            return None
        first, last = items[0].position, items[-1].position
        if last - first + 1 != len(items):  # rows in between are gone
            return None
        shard = dict(_ends(self.old.shards)).get(last + 1)
        return shard if shard and shard.count == len(items) else None

    def _read_and_embed(self, items: list[Item], rows: dict[str, Row], vectors: dict[str, Tensor]) -> None:
        batches = [items[i : i + self.batch_size] for i in range(0, len(items), self.batch_size)]
        with ThreadPoolExecutor(READERS) as pool:
            for batch in _read_ahead(pool, self._read, batches):
                fresh: list[tuple[str, Tensor]] = []
                for item, future in batch:
                    try:
                        row, prepared, note = future.result()
                    except PictureError as error:
                        self.report.skip(item.file.path, str(error))
                        self.report.removed += item.old is not None
                        self.dirty |= item.old is not None
                        continue
                    self.dirty = True
                    rows[row.path] = row
                    self._count(item, same_content=prepared is None)
                    self.report.note(row.path, note)
                    if prepared is None:
                        vectors[row.path] = self._old_vectors([item])[0]
                    else:
                        fresh.append((row.path, prepared))
                if fresh:
                    made = self.embedder.embed_prepared(torch.stack([prepared for _, prepared in fresh]))
                    made = retrieval.unit_length(made).cpu().half()
                    vectors.update(zip((path for path, _ in fresh), made, strict=True))
                self._progress(len(batch))

    def _read(self, item: Item) -> tuple[Row, Tensor | None, str]:
        """Return the row of a picture, what to embed (None: its bytes are those of the old row) and a note."""
        file = item.file
        data = read_bytes(self.folder / file.path)
        row = Row(file.path, sha256_of(data), file.size, file.mtime_ns)
        if item.old is not None and item.old.sha256 == row.sha256:
            return row, None, ""
        image, note = decode(data, at_least_px=self.embedder.image_size)
        return row, self.embedder.prepare(image), note

    def _old_vectors(self, items: list[Item]) -> Tensor:
        return self.old.vectors_at([item.position for item in items])

    def _count(self, item: Item, *, same_content: bool) -> None:
        if item.old is None:
            self.report.added += 1
        elif same_content:
            self.report.kept += 1
        else:
            self.report.changed += 1

    def _progress(self, num_more: int) -> None:
        self.num_done += num_more
        self.on_progress(min(self.num_done, self.total), self.total)

    def _commit(self, cursor: int, *, complete: bool) -> ImageIndex:
        old = self.old
        shards = self.shards if complete else [*self.shards, *old.tail(cursor)]
        index = ImageIndex(
            old.directory, folder=old.folder, model=old.model, shards=shards, complete=complete
        )
        index.commit()
        return index


def _ends(shards: tuple[Shard, ...]) -> Iterator[tuple[int, Shard]]:
    position = 0
    for shard in shards:
        position += shard.count
        yield position, shard


_Ahead = list[tuple[Item, Future]]


def _read_ahead(pool: ThreadPoolExecutor, read: Callable, batches: list[list[Item]]) -> Iterator[_Ahead]:
    """Yield batches of (item, its reading) while the next batch is being read."""
    ready: _Ahead = []
    for batch in batches:
        coming = [(item, pool.submit(read, item)) for item in batch]
        if ready:
            yield ready
        ready = coming
    if ready:
        yield ready

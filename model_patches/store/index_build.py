"""Bring an image index up to date with its folder, embedding only what is new or changed.

Both the index and the listing of the folder are sorted by path, so one merge tells kept, changed, new and deleted
pictures with a few rows in memory. Shards in which nothing changed are kept as they are. After every shard the index
is committed: an interrupted run loses at most one shard of work and never leaves a half-written index.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor

from .. import retrieval
from .image_index import ImageIndex, Row, Shard, write_shard
from .picture_walk import PictureFile, path_order, walk_pictures
from .pictures import PictureError, decode, read_bytes, sha256_of

ROWS_PER_SHARD = 8192
MIN_ROWS_PER_SHARD = 1024
READERS = 4
KEPT_MESSAGES = 1000

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


@dataclass
class Report:
    """What a build did; `skipped` and `noted` hold (path, reason) of the first thousand."""

    kept: int = 0
    added: int = 0
    changed: int = 0
    removed: int = 0
    num_skipped: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)
    noted: list[tuple[str, str]] = field(default_factory=list)

    def skip(self, path: str, reason: str) -> None:
        """Count a file that was refused."""
        self.num_skipped += 1
        if len(self.skipped) < KEPT_MESSAGES:
            self.skipped.append((path, reason))

    def note(self, path: str, text: str) -> None:
        """Remember what was simplified in a file that was used."""
        if text and len(self.noted) < KEPT_MESSAGES:
            self.noted.append((path, text))

    def text(self, *, num_shown: int = 20) -> str:
        """Return the report for people."""
        total = self.kept + self.added + self.changed
        lines = [
            f"{total} pictures in the index: {self.added} new, {self.changed} changed, {self.kept} kept, "
            f"{self.removed} removed, {self.num_skipped} skipped."
        ]
        lines += [f"skipped {path}: {reason}" for path, reason in self.skipped[:num_shown]]
        if self.num_skipped > num_shown:
            lines.append(f"... and {self.num_skipped - num_shown} more skipped.")
        return "\n".join(lines + [f"{path}: {text}" for path, text in self.noted[:num_shown]])


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


@dataclass(frozen=True)
class _Item:
    """A picture in the folder and, if it is known, its row in the old index."""

    file: PictureFile
    old: Row | None = None
    position: int = -1

    @property
    def unchanged(self) -> bool:
        file, old = self.file, self.old
        return old is not None and (file.size, file.mtime_ns) == (old.size, old.mtime_ns)


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
        self.pending: list[_Item] = []
        self.num_unread = 0
        self.num_done = 0
        self.dirty = not old.complete

    def run(self) -> ImageIndex:
        ends = dict(_ends(self.old.shards))
        cursor = 0
        for item, cursor in merge(self.old.rows(), walk_pictures(self.folder, self.report.skip)):
            self._take(item)
            if item is not None and item.position == cursor - 1 and cursor in ends:
                self._end_of_shard(ends[cursor], cursor)
            elif len(self.pending) >= 2 * ROWS_PER_SHARD or self.num_unread >= ROWS_PER_SHARD:
                self._flush(cursor)
        if not self.dirty:
            self.report.kept = len(self.old)
            self._progress(len(self.pending))
            return self.old
        self._flush(cursor)
        if not self.shards:
            path, reason = next(iter(self.report.skipped), ("", "no reason known"))
            raise ValueError(
                f"None of the {self.total} pictures in '{self.old.folder}' can be read. {path}: {reason}."
            )
        return self._commit(cursor, complete=True)

    def _take(self, item: _Item | None) -> None:
        if item is None:
            self.report.removed += 1
            self.dirty = True
            return
        self.pending.append(item)
        self.num_unread += not item.unchanged
        self.dirty |= not item.unchanged

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
        """Write what is pending as a new shard and commit: new shards, then the old rows not yet reached."""
        kept = [item for item in self.pending if item.unchanged]
        vectors = dict(zip((item.file.path for item in kept), self._old_vectors(kept), strict=True))
        rows = {item.file.path: item.old for item in kept if item.old}
        self.report.kept += len(kept)
        self._progress(len(kept))
        self._read_and_embed([item for item in self.pending if not item.unchanged], rows, vectors)
        paths = [item.file.path for item in self.pending if item.file.path in rows]
        self.pending, self.num_unread, self.dirty = [], 0, True
        if paths:
            stacked = torch.stack([vectors[path] for path in paths])
            self.shards.append(write_shard(self.old.directory, [rows[path] for path in paths], stacked))
            self._commit(cursor, complete=False)

    def _read_and_embed(self, items: list[_Item], rows: dict[str, Row], vectors: dict[str, Tensor]) -> None:
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
                        continue
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

    def _read(self, item: _Item) -> tuple[Row, Tensor | None, str]:
        """Return the row of a picture, what to embed (None: its bytes are those of the old row) and a note."""
        file = item.file
        data = read_bytes(self.folder / file.path)
        row = Row(file.path, sha256_of(data), file.size, file.mtime_ns)
        if item.old is not None and item.old.sha256 == row.sha256:
            return row, None, ""
        image, note = decode(data, at_least_px=self.embedder.image_size)
        return row, self.embedder.prepare(image), note

    def _old_vectors(self, items: list[_Item]) -> Tensor:
        return self.old.vectors_at([item.position for item in items])

    def _count(self, item: _Item, *, same_content: bool) -> None:
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


def merge(rows: Iterator[Row], files: Iterator[PictureFile]) -> Iterator[tuple[_Item | None, int]]:
    """Merge old rows and present files, both sorted by path.

    Yields:
        (picture, old rows used up so far) for every file, and (None, ...) for every old row whose file is gone.
    """
    cursor = 0
    row, file = next(rows, None), next(files, None)
    while row or file:
        if row and file and row.path == file.path:
            cursor += 1
            yield _Item(file, row, cursor - 1), cursor
            row, file = next(rows, None), next(files, None)
        elif file and (row is None or path_order(file.path) < path_order(row.path)):
            yield _Item(file), cursor
            file = next(files, None)
        else:
            cursor += 1
            yield None, cursor
            row = next(rows, None)


def _ends(shards: tuple[Shard, ...]) -> Iterator[tuple[int, Shard]]:
    position = 0
    for shard in shards:
        position += shard.count
        yield position, shard


_Ahead = list[tuple[_Item, Future]]


def _read_ahead(pool: ThreadPoolExecutor, read: Callable, batches: list[list[_Item]]) -> Iterator[_Ahead]:
    """Yield batches of (item, its reading) while the next batch is being read."""
    ready: _Ahead = []
    for batch in batches:
        coming = [(item, pool.submit(read, item)) for item in batch]
        if ready:
            yield ready
        ready = coming
    if ready:
        yield ready

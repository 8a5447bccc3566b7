"""Bring an image index up to date with its folder, embedding only what is new or changed.

Finished pictures are committed from time to time: an interrupted build loses little and never leaves a half-written
index.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from PIL import Image
from torch import Tensor

from ..store.cancel import Progress, no_progress
from ..store.pictures import PictureError, decode, read_bytes
from ..store.threads import map_ahead
from ..store.walk import PictureFile, walk_files
from .index import ImageIndex
from .records import Row
from .search import unit_length
from .write import IndexWriter

READERS = 4
KEPT_MESSAGES, SHOWN_MESSAGES = 1000, 20
FILES_PER_PROGRESS = 256


class Embedder(Protocol):
    """A model that turns pictures into vectors."""

    image_size: int

    def prepare(self, image: Image.Image) -> Tensor:
        """Return a picture as the model needs it, (S, S, 3) uint8; called in several threads."""
        ...

    def embed_prepared(self, images: Tensor) -> Tensor:
        """Return vectors (N, D) of prepared pictures (N, S, S, 3)."""
        ...


@dataclass
class Report:
    """What a build did; `skipped` and `noted` hold the first thousand (path, reason) each."""

    kept: int = 0
    added: int = 0
    changed: int = 0
    removed: int = 0
    num_skipped: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)
    noted: list[tuple[str, str]] = field(default_factory=list)

    def skip(self, path: str, reason: str) -> None:
        """Count a file that was refused, and keep the reason."""
        self.num_skipped += 1
        if len(self.skipped) < KEPT_MESSAGES:
            self.skipped.append((path, reason))

    def note(self, path: str, text: str) -> None:
        """Keep what was simplified in a file that was used."""
        if text and len(self.noted) < KEPT_MESSAGES:
            self.noted.append((path, text))

    def text(self) -> str:
        """Return the report for people."""
        total = self.kept + self.added + self.changed
        lines = [
            f"{total} pictures in the index: {self.added} new, {self.changed} changed, {self.kept} kept, "
            f"{self.removed} removed, {self.num_skipped} skipped."
        ]
        lines += [f"skipped {path}: {reason}" for path, reason in self.skipped[:SHOWN_MESSAGES]]
        if self.num_skipped > SHOWN_MESSAGES:
            lines.append(f"... and {self.num_skipped - SHOWN_MESSAGES} more skipped.")
        return "\n".join(lines + [f"{path}: {text}" for path, text in self.noted[:SHOWN_MESSAGES]])


def build_index(
    old: ImageIndex,
    folder: Path,
    embedder: Embedder,
    *,
    batch_size: int = 32,
    on_progress: Progress = no_progress,
) -> tuple[ImageIndex, Report]:
    """Return the index of a folder as it is now, committed, and what was done.

    Args:
        old: the index so far (an empty one for a first build); the new one has its directory and model.
        folder: the folder to index, with all its subfolders.
        embedder: makes the vectors; must be the model of `old`.
        batch_size: pictures embedded at once.
        on_progress: called with (pictures done, pictures in all), (0, 0) while they are counted; may raise to stop.

    Raises:
        ValueError: the folder holds no picture, or none that can be read. The old index is left as it was.
    """
    total = 0
    for _ in walk_files(folder):
        on_progress(0, 0)
        total += 1
    if not total:
        raise ValueError(f"No picture in '{old.folder}' or below it. Put .png, .jpg or .webp files there.")
    with closing(IndexWriter(old)) as writer:
        build = _Build(writer, folder, embedder, lambda done: on_progress(min(done, total), total))
        build.embed_changed(batch_size)
        build.report.removed = writer.remove_unseen()
        if not len(writer.index):
            path, reason = next(iter(build.report.skipped), ("", "no reason known"))
            raise ValueError(f"None of the {total} pictures in '{old.folder}' can be read. {path}: {reason}.")
        if not writer.changed and old.about.complete:
            return old, build.report
        writer.commit(complete=True)
    return ImageIndex.open(old.directory), build.report


class _ToRead(NamedTuple):
    """A picture that is new or may have changed, and its row in the index if it has one."""

    file: PictureFile
    old: Row | None


class _Read(NamedTuple):
    """A picture that was read: its row or why it is skipped, the pixels to embed (None if unchanged), and a note."""

    item: _ToRead
    row: Row | PictureError
    picture: Tensor | None = None
    note: str = ""


class _Build:
    """One run over a folder."""

    def __init__(
        self, writer: IndexWriter, folder: Path, embedder: Embedder, on_progress: Callable[[int], None]
    ) -> None:
        self.writer, self.folder, self.embedder, self.on_progress = writer, folder, embedder, on_progress
        self.report = Report()
        self.num_done = 0

    def embed_changed(self, batch_size: int) -> None:
        """Embed what is new or changed while threads read the next pictures, and commit from time to time."""
        pictures = map_ahead(self._read, self._new_or_touched(), threads=READERS, ahead=batch_size)
        with closing(pictures):
            while batch := list(islice(pictures, batch_size)):
                self._embed(batch)
                self.writer.commit_if_due()
                self.on_progress(self.num_done)
        self.on_progress(self.num_done)

    def _new_or_touched(self) -> Iterator[_ToRead]:
        """Yield the pictures that have to be read; keep the rows of those whose size and times are unchanged."""
        for file in walk_files(self.folder, on_skip=self.report.skip):
            row = self.writer.index.row_of(file.path)
            if row and (file.size, file.mtime_ns, file.ctime_ns) == (row.size, row.mtime_ns, row.ctime_ns):
                self.writer.keep(row)
                self.report.kept += 1
                self.num_done += 1
                if self.num_done % FILES_PER_PROGRESS == 0:
                    self.on_progress(self.num_done)
            else:
                yield _ToRead(file, row)

    def _read(self, item: _ToRead) -> _Read:
        file, old = item
        try:
            data = read_bytes(self.folder / file.path)
            row = Row(file.path, hashlib.sha256(data).hexdigest(), file.size, file.mtime_ns, file.ctime_ns)
            if old is not None and old.sha256 == row.sha256:
                return _Read(item, replace(row, position=old.position))
            image, note = decode(data, at_least_px=self.embedder.image_size)
            return _Read(item, row, self.embedder.prepare(image), note)
        except PictureError as error:
            return _Read(item, error)

    def _embed(self, batch: list[_Read]) -> None:
        rows, pictures = [], []
        for item, row, picture, note in batch:
            self.num_done += 1
            if isinstance(row, PictureError):
                self.report.skip(item.file.path, str(row))
                continue
            if picture is None:
                self.report.kept += 1
                self.writer.put(row)
                continue
            self.report.added += item.old is None
            self.report.changed += item.old is not None
            self.report.note(row.path, note)
            rows.append(row)
            pictures.append(picture)
        if rows:
            self.writer.add(rows, unit_length(self.embedder.embed_prepared(torch.stack(pictures))).cpu())

"""Keep a run of windows on disk: segments, tensors and journal, and the video joined from them."""

import contextlib
import logging
import math
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from av.error import FFmpegError
from torch import Tensor

from ..store.cancel import delaying_cancel, time_limit
from ..store.disk import DiskRefused, KeptElsewhere, disk_errors
from ..store.files import file_sha256, make_subfolder
from ..store.sound import Sound, choose_sound
from ..store.video_sink import CODECS, VideoFormat, join_segments, write_segment
from ..store.video_source import Source
from .entries import Entry
from .journal import RunJournal
from .report import check_facts
from .takes import TAKES

SPARE_BYTES = 64 * 1024**2
PARTIAL = "unfinished"
"""Name of the video of a canceled run."""
GRACE_S = 0.4
"""How long after a cancel writing a window may take, and then joining the video: together less than a second."""


class WindowStore:
    """The run directory as the window loop uses it. A context manager: it holds the directory's lock.

    After an error or a cancel the finished windows are joined, so that there is a video to look at; after a cancel only
    if that is quick.

    Args:
        folder: the run directory.
        settings: what all windows share, for the journal.
        video: format of the video.

    Attributes:
        entries: of the finished windows. unfinished: the video that was joined when the run ended early.
    """

    def __init__(self, folder: Path, settings: dict, video: VideoFormat) -> None:
        self.folder, self.video = folder, video
        self.journal = RunJournal(folder, settings, check=self._check_entry)
        self.entries: list[Entry] = []
        self.lead_in: Path | None = None
        self.unfinished: Path | None = None
        self.sound: Sound | None = None
        self.metadata: dict[str, str] = {}

    def __enter__(self) -> "WindowStore":
        self.journal.__enter__()
        with disk_errors(self.folder):
            make_subfolder(self.folder, "segments")
        return self

    def _check_entry(self, entry: Entry) -> None:
        if self.segment_name(entry.index) not in entry.files:
            raise ValueError("it does not name its segment")
        check_facts(entry.facts, entry.index)

    def segment_name(self, index: int) -> str:
        """Return the path of a window's frames inside the folder."""
        return f"segments/{index:04d}{self.video.suffix}"

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is not None and self.entries:
                seconds = math.inf if issubclass(kind, Exception) else GRACE_S  # a cancel is no Exception
                with contextlib.suppress(OSError, ValueError, FFmpegError), time_limit(seconds):
                    self.unfinished = self.join(finished=False)
        finally:
            self.journal.__exit__()

    def restore(self, keys: list[str], *, keep_later: float | None = None) -> list[str]:
        """Take over the finished windows that match ``keys``; return how many there are, what is made again and why."""
        notes = self.take_over(keys, keep_later=keep_later)
        if self.entries:
            notes.insert(0, f"{len(self.entries)} of {len(keys)} windows were finished by an earlier run.")
        return notes

    def take_over(self, keys: list[str], *, keep_later: float | None) -> list[str]:
        """Take over the finished windows that follow the present ones; return what is made again and why."""
        self.entries, notes = self.journal.finished(keys, before=self.entries, keep_later=keep_later)
        return notes

    def other_takes(self, entry: Entry) -> list[Entry]:
        """Return the older takes of a finished window that continue the same window before it."""
        takes = self.journal.takes.older(entry.index)
        return [take for take in takes if take.after == entry.after and take.tensors != entry.tensors]

    def write_lead_in(self, frames: Iterable[Tensor]) -> None:
        """Encode the video that is continued as the piece before the first window; call it after ``restore``."""
        self.lead_in = self.folder / "segments" / f"source{self.video.suffix}"
        if not self.entries and not self._is_whole(self.lead_in):
            write_segment(self.lead_in, frames, self.video)

    def _is_whole(self, lead_in: Path) -> bool:
        """Return whether a take of the first window names this very file, which must then not be written anew."""
        name, takes = lead_in.relative_to(self.folder).as_posix(), self.journal.takes
        hashes = [entry.files.get(name) for entry in (takes.read(0), *takes.older(0)) if entry is not None]
        return lead_in.is_file() and file_sha256(lead_in) in hashes

    def use_sound_of(self, source: Source) -> list[str]:
        """Use the sound of a video for the joined one; return what could not be used of it."""
        self.sound, notes = choose_sound(source)
        return notes

    def save(
        self, index: int, key: str, frames: Tensor, *, tensors: dict, facts: dict, **relations: Any
    ) -> None:
        """Put a window on disk: a playable segment first, its entry last.

        Args:
            relations: see ``RunJournal.commit``; ``after`` is added here.

        Raises:
            DiskRefused: the disk is full or cannot be written; the windows before are kept.
        """
        self._check_space(frames)
        segment = self.folder / self.segment_name(index)
        files = [segment, self.lead_in] if index == 0 and self.lead_in else [segment]
        del self.entries[index:]
        relations["after"] = self.entries[-1].tensors if self.entries else ""
        with delaying_cancel(GRACE_S):
            self.journal.takes.set_aside(index)
            write_segment(segment, frames, self.video)
            content = {"tensors": tensors, "files": files, "facts": facts}
            self.entries.append(self.journal.commit(index, key, **content, **relations))

    def _check_space(self, frames: Tensor) -> None:
        raw = frames.numel()  # a byte a value
        lossless = CODECS[self.video.codec].quality_option is None
        needed = SPARE_BYTES + (raw if lossless else raw // 4)
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise DiskRefused(
                f"The disk is almost full: {free // 2**20} MB are free in {self.folder} and the next window may need "
                f"{needed // 2**20}. The {len(self.entries)} finished windows are kept; free some space (the folder "
                f"{TAKES} in it holds older takes, which may be deleted) and queue the same workflow again to go on."
            )

    def _join_with_sound(self, path: Path, segments: list[Path]) -> None:
        """Join the pieces, without sound if that cannot be joined."""
        try:
            join_segments(path, segments, sound=self.sound, metadata=self.metadata)
        except DiskRefused:
            raise
        except (FFmpegError, ValueError) as error:
            if self.sound is None:
                raise
            logging.warning("Magic141: %s gets no sound: %s", path.name, error)
            join_segments(path, segments, metadata=self.metadata)

    def join(self, *, finished: bool = True) -> Path:
        """Join all finished windows into one video and return its path, which differs from run to run.

        Older videos of the run while it was unfinished are removed.
        """
        name = "video" if finished else PARTIAL
        path = self.folder / f"{name}_{self.entries[-1].key[:8]}{self.video.suffix}"
        segments = [self.folder / self.segment_name(entry.index) for entry in self.entries]
        if self.lead_in is not None:
            segments.insert(0, self.lead_in)
        try:
            self._join_with_sound(path, segments)
        except KeptElsewhere as kept:  # open in a player
            logging.warning("Magic141: %s", kept)
            path = kept.path
        for older in self.folder.glob(f"{PARTIAL}_*"):
            if older != path:
                with contextlib.suppress(OSError):  # open in a player
                    older.unlink()
        return path

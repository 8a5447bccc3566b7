"""Keep later windows though one before them is made again: where they start from nearly the same frames.

A window that takes the place of another notes which take the next one has followed, and how far its own end is from the
end of that. Whether this is near enough is asked whenever the run is opened: the limit may change.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ..measures import frame_difference
from .complaints import named
from .entries import Entry
from .store import WindowStore
from .tail import Tail, from_uint8, read_tail, start_frames

FOLLOWED = "followed.frames"
"""Name of the journal's tensor that holds the frames that the next window on disk has started from."""


@dataclass(frozen=True)
class Followed:
    """The take that the next window on disk was made after.

    key, tensors: of its entry. frames: (k, H, W, 3) uint8, where it ended. difference: in delta E, from where the
    window ends that takes its place.
    """

    key: str
    tensors: str
    frames: Tensor
    difference: float

    @property
    def noted(self) -> dict:
        """Return what the entry of the window that takes its place says of it."""
        return {"followed": {"key": self.key, "tensors": self.tensors}, "difference": self.difference}


def followed_take(store: WindowStore, index: int, tail: Tail, num_known: int) -> Followed | None:
    """Return what the next window on disk was made after; None where it cannot be known.

    Args:
        index: of the window that is about to take the place of another.
        tail: its end.
        num_known: frames that the next window knows.
    """
    takes = store.journal.takes
    before, later = takes.read(index), takes.read(index + 1)
    if before is None or later is None or takes.damage(before):
        return None
    tensors, now = store.journal.tensors(index), start_frames(tail, num_known)
    if later.after in ("", before.tensors):
        key, name, frames = before.key, before.tensors, start_frames(read_tail(tensors), num_known)
    elif later.after == before.followed.get("tensors") and FOLLOWED in tensors:
        key, name, frames = before.followed["key"], later.after, tensors[FOLLOWED]
    else:
        return None
    if frames.shape != now.shape:
        return None
    return Followed(key, name, frames, frame_difference(from_uint8(frames), from_uint8(now)))


def start_difference(entries: Sequence[Entry], index: int) -> float | None:
    """Return how far a kept window starts from where the one before it ends, in delta E; None where it follows it."""
    after = entries[index].after
    return entries[index - 1].difference if index and after not in ("", entries[index - 1].tensors) else None


def kept_later(entries: Sequence[Entry]) -> list[str]:
    """Say which windows were kept though the one before was made again."""
    found = {index + 1: start_difference(entries, index) for index in range(len(entries))}
    kept = {number: value for number, value in found.items() if value is not None}
    if not kept:
        return []
    return [
        f"{named(list(kept))}: kept though the window before was made again, as [keep later] says; the start differs "
        f"by up to {max(kept.values()):.2f} delta E from the frames it was made from."
    ]

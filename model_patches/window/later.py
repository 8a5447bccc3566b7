"""Keep later windows when an earlier one is made again, if they start from nearly the same frames.

A window that replaces another records which take the next window continues, and how far its own end is from the end of
that take. Whether that is near enough is decided whenever the run is opened, because the limit may change.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ..measures import frame_difference
from .complaints import name_windows
from .entries import Entry
from .store import WindowStore
from .tail import Tail, from_uint8, read_tail, start_frames

FOLLOWED = "followed.frames"
"""Name of the tensor with the frames that the next window on disk started from."""


@dataclass(frozen=True)
class Followed:
    """The take that the next window on disk continues.

    key, tensors: of its entry. frames: (k, H, W, 3) uint8, its end. difference: in delta E, from the end of the window
    that replaces it.
    """

    key: str
    tensors: str
    frames: Tensor
    difference: float

    @property
    def entry_fields(self) -> dict:
        """Return what the entry of the window that replaces it records."""
        return {"followed": {"key": self.key, "tensors": self.tensors}, "difference": self.difference}


def followed_take(store: WindowStore, index: int, tail: Tail, num_known: int) -> Followed | None:
    """Return the take that the next window on disk continues; None where that cannot be known.

    Args:
        index: of a window that is about to replace the one on disk.
        tail: its end.
        num_known: frames that the next window knows.
    """
    takes = store.journal.takes
    replaced, following = takes.read(index), takes.read(index + 1)
    if replaced is None or following is None or takes.damage(replaced):
        return None
    tensors, new_frames = store.journal.tensors(index), start_frames(tail, num_known)
    if following.after in ("", replaced.tensors):
        key, frames = replaced.key, start_frames(read_tail(tensors), num_known)
    elif following.after == replaced.followed.get("tensors") and FOLLOWED in tensors:
        key, frames = replaced.followed["key"], tensors[FOLLOWED]
    else:
        return None
    if frames.shape != new_frames.shape:
        return None
    difference = frame_difference(from_uint8(frames), from_uint8(new_frames))
    return Followed(key, following.after or replaced.tensors, frames, difference)


def start_difference(entries: Sequence[Entry], index: int) -> float | None:
    """Return how far, in delta E, a kept window starts from the end of the one before; None if it continues it."""
    after = entries[index].after
    return entries[index - 1].difference if index and after not in ("", entries[index - 1].tensors) else None


def kept_later(entries: Sequence[Entry]) -> list[str]:
    """Return a sentence on windows that were kept although the one before was made again; none if there are none."""
    differences = {index + 1: start_difference(entries, index) for index in range(len(entries))}
    kept = {number: value for number, value in differences.items() if value is not None}
    if not kept:
        return []
    return [
        f"{name_windows(list(kept))}: kept though the window before was made again, as [keep later] says; the start "
        f"differs by up to {max(kept.values()):.2f} delta E from the frames it was made from."
    ]

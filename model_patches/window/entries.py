"""What is written down of a finished window, and what of it is taken when it is read again.

Entries are data: anyone can write one, its digest tells damage and nothing else. One that is not as this pack writes
them counts as damaged, and what it names is left alone.
"""

import contextlib
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ..store.fields import checked
from ..store.files import path_inside, read_json, write_text

ROOMS = ("segments", "windows", "frames")
NEW_FIELDS = {"after": "", "followed": {}, "difference": 0.0}
"""Fields that older versions do not know, with the value that is not written."""
_SHA256 = re.compile("[0-9a-f]{64}")


def digest(value: object) -> str:
    """Hash a JSON value; equal values give equal digests on every machine."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


class RunDirectoryBroken(ValueError):
    """The run directory cannot be trusted at all."""


@dataclass(frozen=True)
class Entry:
    """A finished window.

    key: what made it (see ``journal.chain_keys``). files: relative path -> SHA-256. facts: plain values for the report.
    after: the hash of the tensors of the window it was made after; empty for the first, and in folders of older
    versions, where windows follow each other as they lie there. followed, difference: the key and tensors of the take
    that the next window was made after, and how far this one ends from it (see ``later``).
    """

    index: int
    key: str
    files: dict[str, str]
    facts: dict = field(default_factory=dict)
    after: str = ""
    followed: dict[str, str] = field(default_factory=dict)
    difference: float = 0.0

    @property
    def tensors(self) -> str:
        """Return the hash of its tensors."""
        return self.files[f"windows/{self.index:04d}.safetensors"]


def check_entry(entry: Entry, index: int) -> None:
    """Refuse an entry that is not one of window ``index`` as this pack writes it.

    Raises:
        ValueError: says why.
    """
    if entry.index != index:
        raise ValueError(f"it says window {entry.index + 1}")
    hashes = [
        entry.key,
        *entry.files.values(),
        *entry.followed.values(),
        *[entry.after] * (entry.after != ""),
    ]
    if not all(_SHA256.fullmatch(text) for text in hashes):
        raise ValueError("it holds a hash that is none")
    if entry.followed and entry.followed.keys() != {"key", "tensors"}:
        raise ValueError("it does not name the take that was followed")
    if f"windows/{index:04d}.safetensors" not in entry.files:
        raise ValueError("it does not name its tensors")
    if strange := [name for name in entry.files if not belongs_to(index, name)]:
        raise ValueError(f"it names {strange[0]!r}")
    json.dumps(entry.facts, allow_nan=False, ensure_ascii=False).encode()


def belongs_to(index: int, name: str) -> bool:
    """Say whether a file of this name can be window ``index``'s: only its own tensors and segment, and frames."""
    room, _, file = name.partition("/")
    stem, _, suffix = file.partition(".")
    if room == "frames":
        return re.fullmatch(r"[0-9]{6,}\.png", file) is not None
    own = stem == f"{index:04d}"
    if room == "windows":
        return own and suffix == "safetensors"
    return room == "segments" and suffix.isalnum() and (own or (index == 0 and stem == "source"))


def entry_name(index: int) -> str:
    """Return where the entry of a window lies, in a run or in a take."""
    return f"windows/{index:04d}.json"


def read_entry(room: Path, index: int, check: Callable[[Entry], None]) -> Entry | None:
    """Return the entry of a window; None where it is damaged or missing.

    Args:
        room: the folder of a run or of a take.
        check: raises ``ValueError`` for an entry that cannot be gone on from.
    """
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        document = read_json(room / entry_name(index))
        if document["sha256"] == digest(document["entry"]):
            entry = checked(Entry, NEW_FIELDS | document["entry"])
            check_entry(entry, index)
            check(entry)
            for name in entry.files:
                path_inside(room, name, under=ROOMS)
            return entry
    return None


def write_entry(room: Path, entry: Entry) -> None:
    """Write an entry down."""
    told = {name: value for name, value in vars(entry).items() if value != NEW_FIELDS.get(name)}
    write_text(room / entry_name(entry.index), json.dumps({"sha256": digest(told), "entry": told}))

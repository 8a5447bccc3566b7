"""The entry of a finished window: what is written to disk about it, and how it is checked when it is read.

Entries are untrusted: anyone can write one, and its digest shows damage, nothing else. An entry that this pack would
not write counts as damaged, and the files it names are left alone.
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

SUBFOLDERS = ("segments", "windows", "frames")
NEW_FIELDS = {"after": "", "followed": {}, "difference": 0.0}
"""Fields that older versions lack. Those with the values given here are not written."""
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

    key: hash of what made it (see ``journal.chain_keys``). files: relative path -> SHA-256. facts: plain values for the
    report. after: hash of the tensors of the window that this one continues; empty for the first, and in folders of
    older versions, where each window continues the one before it on disk. followed, difference: key and tensors of the
    take that the next window continues, and how far the end of this one is from the end of that take (see ``later``).
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
        """Return the hash of its tensor file."""
        return self.files[f"windows/{self.index:04d}.safetensors"]


def check_entry(entry: Entry, index: int) -> None:
    """Refuse an entry that is not one of window ``index`` as this pack writes it.

    Raises:
        ValueError: says why.
    """
    if entry.index != index:
        raise ValueError(f"it says window {entry.index + 1}")
    hashes = [entry.key, *entry.files.values(), *entry.followed.values()]
    if entry.after:
        hashes.append(entry.after)
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
    """Return whether window ``index`` can have a file of this name: its own tensors, its own segment, or a frame."""
    folder, _, file = name.partition("/")
    stem, _, suffix = file.partition(".")
    if folder == "frames":
        return re.fullmatch(r"[0-9]{6,}\.png", file) is not None
    is_own = stem == f"{index:04d}"
    if folder == "windows":
        return is_own and suffix == "safetensors"
    return folder == "segments" and suffix.isalnum() and (is_own or (index == 0 and stem == "source"))


def entry_name(index: int) -> str:
    """Return the path of a window's entry inside the folder of a run or of a take."""
    return f"windows/{index:04d}.json"


def read_entry(folder: Path, index: int, check: Callable[[Entry], None]) -> Entry | None:
    """Return the entry of a window; None where it is damaged or missing.

    Args:
        folder: of a run or of a take.
        check: raises ``ValueError`` for an entry that cannot be used.
    """
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        document = read_json(folder / entry_name(index))
        if document["sha256"] == digest(document["entry"]):
            entry = checked(Entry, NEW_FIELDS | document["entry"])
            check_entry(entry, index)
            check(entry)
            for name in entry.files:
                path_inside(folder, name, under=SUBFOLDERS)
            return entry
    return None


def write_entry(folder: Path, entry: Entry) -> None:
    """Write an entry to the folder of a run or of a take."""
    values = {name: value for name, value in vars(entry).items() if value != NEW_FIELDS.get(name)}
    write_text(folder / entry_name(entry.index), json.dumps({"sha256": digest(values), "entry": values}))

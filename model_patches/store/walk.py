"""List the pictures below a folder in one fixed order, without leaving the folder."""

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .cancel import until_canceled
from .files import stays_inside
from .pictures import is_picture_name

MAX_DEPTH = 100


@dataclass(frozen=True)
class PictureFile:
    """A file below a folder: its relative path with forward slashes, and values that change when the file does.

    A replaced file can have the old size and ``mtime_ns``, but not the old ``ctime_ns``.
    """

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int = 0


def is_macos_sidecar(name: str) -> bool:
    """Say whether a file is one of the "._" files that macOS writes beside the real ones on disks of other systems."""
    return name.startswith("._")


def walk_files(
    folder: Path,
    is_wanted: Callable[[str], bool] = is_picture_name,
    on_skip: Callable[[str, str], None] = lambda path, reason: None,
) -> Iterator[PictureFile]:
    """Yield the wanted files below a folder, sorted by folder and name; one listing per level is in memory.

    Hidden folders and what lies more than 100 folders deep are left out. A symbolic link to a file inside the folder
    counts as a file; linked folders are never entered (they could loop) and links that leave the folder are refused.

    Args:
        is_wanted: says whether to yield a file of this name; by default pictures.
        on_skip: called with (relative path, reason) for each thing that is refused.
    """

    def is_wanted_too(name: str) -> bool:
        return is_wanted(name) and not is_macos_sidecar(name)

    yield from _walk(folder, folder, "", on_skip, is_wanted_too)


def listing_digest(folder: Path, is_wanted: Callable[[str], bool] = is_picture_name) -> str:
    """Return a digest that changes when any wanted file below a folder is added, removed or touched."""
    digest = hashlib.sha256()
    for file in walk_files(folder, is_wanted):
        digest.update(
            f"{file.path}\0{file.size}\0{file.mtime_ns}\0{file.ctime_ns}\n".encode("utf-8", "surrogatepass")
        )
    return digest.hexdigest()


def _walk(
    root: Path,
    folder: Path,
    prefix: str,
    on_skip: Callable[[str, str], None],
    is_wanted: Callable[[str], bool],
) -> Iterator[PictureFile]:
    if prefix.count("/") > MAX_DEPTH:
        on_skip(prefix, f"more than {MAX_DEPTH} folders deep")
        return
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        on_skip(prefix or ".", f"the folder cannot be listed: {error.strerror or error}")
        return
    for entry in until_canceled(entries):
        path = f"{prefix}{entry.name}"
        if _is_link(entry) and (reason := _refuse_link(root, entry, is_wanted)):
            on_skip(path, reason)
        elif _is_folder(entry):
            if not entry.name.startswith("."):
                yield from _walk(root, Path(entry.path), f"{path}/", on_skip, is_wanted)
        elif is_wanted(entry.name):
            yield from _regular_file(entry, path, on_skip)


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _is_link(entry: os.DirEntry) -> bool:
    """Say whether an entry points elsewhere: a symbolic link, or a junction of Windows (known from Python 3.12 on)."""
    return entry.is_symlink() or getattr(entry, "is_junction", bool)()


def _refuse_link(root: Path, entry: os.DirEntry, is_wanted: Callable[[str], bool]) -> str:
    try:
        is_folder = entry.is_dir()
    except OSError as error:  # a link that points to itself, a folder that cannot be entered
        reason = f"a symbolic link that cannot be followed: {error.strerror or error}"
        return reason if is_wanted(entry.name) else ""
    if not stays_inside(root, Path(entry.path)):
        return "a symbolic link that leaves the folder" if is_wanted(entry.name) or is_folder else ""
    return "a symbolic link to a folder" if is_folder else ""


def _regular_file(
    entry: os.DirEntry, path: str, on_skip: Callable[[str, str], None]
) -> Iterator[PictureFile]:
    try:
        info = entry.stat()
    except OSError as error:
        on_skip(path, f"cannot be opened: {error.strerror or error}")
        return
    if not stat.S_ISREG(info.st_mode):  # a pipe would block for ever
        on_skip(path, "not a regular file")
        return
    yield PictureFile(path, info.st_size, info.st_mtime_ns, info.st_ctime_ns)

"""Write files so that a reader sees the old one or the whole new one.

Anyone may have written the files that are read: names and contents are checked here before they are used.
"""

import contextlib
import errno
import hashlib
import itertools
import json
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePath
from typing import Any

from .cancel import stop_if_canceled
from .disk import KeptElsewhere, disk_errors

_NO_FLUSH = (errno.EINVAL, errno.EACCES, errno.EPERM, errno.EBADF, errno.EISDIR, errno.ENOSYS, errno.ENOTSUP)
"""Errors of file systems that cannot flush a folder: network drives, Windows. Nothing written is lost."""
WAITS_S = (0.05, 0.1, 0.2, 0.4)
"""How long to wait for a file that a virus scanner or a player holds, before each new try."""
HASH_CHUNK_BYTES = 1 << 22
_ASIDE = ".old.part"
"""Suffix of a folder while a new one takes its place."""


@contextlib.contextmanager
def atomic_file(path: Path, *, listed: bool = True) -> Iterator[Path]:
    """Give a temporary path to write; when the block ends well it becomes ``path``, flushed to the disk.

    Args:
        listed: the temporary name keeps the suffix, which tells writers the container format. False gives a name
            that the host does not list among its models.

    Raises:
        DiskRefused: the disk is full or cannot be written; the file is what it was.
        KeptElsewhere: the file is in use; the new one has another name.
    """
    temporary = path.with_name(f"{path.stem}.part{path.suffix}" if listed else f".{path.name}.part")
    with disk_errors(path.parent):
        remove_file(temporary)  # a link there would be written through
        try:
            yield temporary
            _flush(temporary)
            replace_or_keep(temporary, path)
            _flush_folder(path.parent)
        finally:
            with contextlib.suppress(OSError):  # still open (Windows): the next run removes it
                remove_file(temporary)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder to fill; when the block ends well it becomes ``path``, flushed to the disk.

    A folder that is at ``path`` already is replaced; what a killed process left under the temporary name is removed.

    Raises:
        DiskRefused: the disk is full or cannot be written; the folder is what it was.
        KeptElsewhere: a file in the folder is in use; the new folder has another name.
    """
    temporary, old = path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}{_ASIDE}")
    with disk_errors(path.parent):
        try:
            restore_folders(path.parent)
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            yield temporary
            for file in temporary.iterdir():
                _flush(file)
            _flush_folder(temporary)
            shutil.rmtree(old, ignore_errors=True)
            # moved aside in one step: deleting it could stop half way, at a file that is in use
            if path.exists():
                replace_or_keep(path, old, or_keep=(temporary, path))
            replace_or_keep(temporary, path)
            _flush_folder(path.parent)
            shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def restore_folders(parent: Path) -> None:
    """Undo what a kill inside ``atomic_folder`` left: a folder moved aside comes back if no new one took its place."""
    for old in parent.glob(f"*{_ASIDE}"):
        path = old.with_name(old.name.removesuffix(_ASIDE))
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(old, path)


def read_json(path: Path) -> Any:
    """Return what a JSON file holds.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be read.
        ValueError: it is not a regular file (reading a pipe would block), not JSON, or nested too deeply; the message
            completes a sentence about the file.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("it is not a plain file")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"it is not JSON: {error}") from None


def read_json_object(path: Path) -> dict:
    """Return the JSON object that a file holds.

    Raises:
        FileNotFoundError, OSError, ValueError: as ``read_json``; or it holds something else.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise ValueError(f"it holds a {type(value).__name__}, not an object")
    return value


def read_json_lines(path: Path) -> list[dict]:
    """Return the JSON objects in the lines of a file; others, such as one cut off by a kill, are skipped."""
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            rows.append(json.loads(line))
    return [row for row in rows if isinstance(row, dict)]


def write_text(path: Path, text: str) -> None:
    """Replace a text file atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(HASH_CHUNK_BYTES):
            digest.update(chunk)
            stop_if_canceled()
    return digest.hexdigest()


def remove_parts(folder: Path) -> None:
    """Remove what a killed process left half written."""
    for path in folder.rglob("*.part.*"):
        if path.is_symlink() or path.is_file():
            path.unlink(missing_ok=True)


def stays_inside(folder: Path, path: Path) -> bool:
    """Say whether a path, all symbolic links resolved, lies inside a folder."""
    try:
        return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))
    except (OSError, ValueError):
        return False


def is_relative_name(name: object) -> bool:
    """Say whether a name read from a file is a plain relative path: not absolute, no "..", no empty part."""
    if not isinstance(name, str) or not name or "\0" in name:
        return False
    path = PurePath(name)
    return not path.anchor and ".." not in path.parts and bool(path.parts) and path.as_posix() == name


def path_inside(folder: Path, name: object, *, under: tuple[str, ...] = ()) -> Path:
    """Return the path of a name that was read from a file, if it lies inside the folder.

    Args:
        folder: where the path has to be.
        name: relative, with forward slashes; untrusted.
        under: subfolders of ``folder`` in one of which the path has to be; anywhere inside if empty.

    Raises:
        ValueError: it lies elsewhere, or a symbolic link on the way leads out of the folder.
    """
    if not is_relative_name(name):
        raise ValueError(f"{name!r} is no file name inside {folder.name}")
    assert isinstance(name, str)
    first, *rest = PurePath(name).parts
    if under and (first not in under or not rest):
        raise ValueError(f"{name!r} does not lie in {' or '.join(under)}")
    path = folder / name
    if not stays_inside(folder, path):
        raise ValueError(f"{name!r} leads out of {folder.name}")
    return path


def refuse_links_out(folder: Path, names: Iterable[str]) -> None:
    """Refuse a folder in which one of our own files or subfolders is a link that leads elsewhere.

    Raises:
        ValueError: names it.
    """
    for name in names:
        if not stays_inside(folder, folder / name):
            raise ValueError(
                f"{folder / name} is a link that leads out of its folder. Remove it and try again."
            )


def make_subfolder(folder: Path, name: str) -> Path:
    """Make a subfolder if it is not there and return it.

    Raises:
        ValueError: there is something that is not a folder, or a symbolic link that leads elsewhere.
    """
    path = folder / name
    if not stays_inside(folder, path) or (os.path.lexists(path) and not path.is_dir()):
        raise ValueError(
            f"{path} is not a folder inside {folder}, so nothing is written there. Remove it: a folder is made in "
            "its place."
        )
    path.mkdir(parents=True, exist_ok=True)
    return path


def remove_file(path: Path) -> None:
    """Remove a file if it is there; try again for a moment if a virus scanner holds it.

    Raises:
        PermissionError: it stays in use, or may not be removed.
    """
    _try_for_a_moment(lambda: path.unlink(missing_ok=True))


def replace_or_keep(source: Path, target: Path, *, or_keep: tuple[Path, Path] | None = None) -> None:
    """Move a file or folder over another one; if that one stays in use, keep the new one beside it.

    Args:
        or_keep: (what to keep, the name it should have had), if these are not the source and the target.
    """
    try:
        _try_for_a_moment(lambda: os.replace(source, target))
    except PermissionError:
        kept, wanted = or_keep or (source, target)
        if not wanted.exists():
            raise
        other = _free_name(wanted)
        os.rename(kept, other)
        raise KeptElsewhere(wanted, other) from None


def _try_for_a_moment(action: Callable[[], object]) -> None:
    for wait in WAITS_S:
        with contextlib.suppress(PermissionError):
            action()
            return
        time.sleep(wait)
    action()


def _free_name(path: Path) -> Path:
    """Return a free name beside a path: "video (2).mp4"."""
    names = (path.with_name(f"{path.stem} ({number}){path.suffix}") for number in itertools.count(2))
    return next(name for name in names if not os.path.lexists(name))


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    if os.name == "nt":
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _NO_FLUSH:
            raise

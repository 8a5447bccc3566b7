"""Turn what the system refuses about files (a full disk, missing permissions) into sentences for people."""

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG)


class DiskRefused(ValueError):
    """The disk is full or cannot be written; the message is for the screen."""


class KeptElsewhere(DiskRefused):
    """A file in use could not be replaced (Windows), so the new file was kept under another name.

    Attributes:
        path: where the new file is.
    """

    def __init__(self, wanted: Path, path: Path) -> None:
        super().__init__(
            f"{wanted} is open in another program or loaded, so it cannot be replaced. The new one is kept as "
            f"{path.name} beside it. Close the program or free the models, and rename it."
        )
        self.path = path


@contextlib.contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn an ``OSError`` of the system into a message for the screen.

    Raises:
        DiskRefused: in place of that error; errors without a number have a sentence of their own and pass through.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DiskRefused(
                f"The disk is full: {folder}. What was finished before is kept; the unfinished file is not. Free "
                "some space and queue the same workflow again."
            ) from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise DiskRefused(
                f"{folder} cannot be written ({os.strerror(error.errno)}). "
                "Choose a folder that can be written, or change its permissions."
            ) from error
        if error.errno is not None:
            raise DiskRefused(refusal_text(error, folder)) from error
        raise


def refusal_text(error: OSError, folder: Path | None = None) -> str:
    """Say in a sentence what the system refused, where, and what to do.

    Args:
        folder: where it happened, if the error names no file.
    """
    place = error.filename or folder
    if error.errno == errno.ENOENT:
        what, todo = "is not there", "If it was moved or deleted meanwhile, queue the same workflow again"
    elif error.errno in (errno.EACCES, errno.EPERM):
        what = "cannot be opened or changed: permission denied"
        todo = "Change its permissions, or close the program that has it open"
    elif error.errno in _FULL:
        what = "cannot be written: the disk is full"
        todo = "Free some space and queue the same workflow again"
    else:
        what = f"could not be read or written ({error.strerror})"
        todo = "Check the disk or the network drive and queue the same workflow again"
    return f"{place or 'A file'} {what}. {todo}."


def _longest_path() -> int:
    """Return how many characters a path may have: few on Windows, unless its long paths are switched on."""
    if os.name != "nt":
        return 4095
    import ctypes

    enabled = getattr(ctypes.WinDLL("ntdll"), "RtlAreLongPathsEnabled", lambda: 0)
    return 32767 if enabled() & 1 else 259


LONGEST_PATH = _longest_path()
LONGEST_INSIDE = len("/captions/.part.safetensors") + 32
"""The longest path that the pack writes below a folder whose name someone typed."""


def check_path_length(folder: Path) -> None:
    """Refuse, before the work starts, a folder whose path is too long for the files that will be written in it.

    Raises:
        DiskRefused: says how long it is, and what to change.
    """
    length = len(str(folder.absolute()))
    if (excess := length + LONGEST_INSIDE - LONGEST_PATH) > 0:
        raise DiskRefused(
            f"The path of {folder} is {length} characters long; the files in it need {LONGEST_INSIDE} more, and this "
            f"system takes {LONGEST_PATH}. Give a name that is {excess} letters shorter, move ComfyUI to a shorter "
            "path, or switch long paths on in Windows."
        )


def sentence_of(error: Exception) -> str:
    """Return what an error says to people: its own sentence, or one about what the system refused."""
    return refusal_text(error) if isinstance(error, OSError) and error.errno is not None else str(error)


def check_writable(folder: Path) -> None:
    """Make a folder if it is not there, and refuse one that no file can be written to.

    Raises:
        DiskRefused: says why.
    """
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"1")
            file.flush()

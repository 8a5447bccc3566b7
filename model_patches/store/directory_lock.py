"""Let one process at a time use a directory; the system frees the lock when the process ends, however it ends.

Not filelock: on a file system without locks its newer versions fall back to a file that a killed process leaves behind,
and its older ones empty the file that holds the owner's process number.
"""

import errno
import os
from pathlib import Path
from typing import IO

from .disk import check_path_length, disk_errors

_LOCKED_BYTE = 1 << 30
"""Windows locks byte ranges and refuses to read them, so the byte lies far behind the text."""


_HELD = (errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK, getattr(errno, "EDEADLOCK", errno.EAGAIN))


class DirectoryLocked(ValueError):
    """Another process uses the directory, or it cannot be locked."""


class DirectoryLock:
    """An exclusive lock on a directory, held from ``acquire`` to ``release``, or in a ``with`` block.

    Args:
        folder: an existing directory; a file ``lock`` is kept in it.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "lock"
        self._file: IO[bytes] | None = None

    def acquire(self) -> None:
        """Take the lock without waiting.

        Raises:
            DirectoryLocked: another run holds it, or the file system does not support locks.
            DiskRefused: the path is too long for the files that belong there.
        """
        check_path_length(self.path.parent)
        if self.path.is_symlink() or (self.path.exists() and not self.path.is_file()):
            raise DirectoryLocked(
                f"{self.path} is not a plain file, so it cannot lock the folder. Remove it and try again."
            )
        with disk_errors(self.path.parent):
            file = self.path.open("a+b")
        try:
            _lock(file)
        except OSError as error:
            file.seek(0)
            owner = file.read(64).decode(errors="replace").strip()
            file.close()
            if error.errno not in _HELD:
                raise DirectoryLocked(
                    f"{self.path.parent} cannot be locked ({error}), so two runs in it could spoil each other. "
                    "Many network drives do not support locks: let ComfyUI write to a local drive (--output-directory)."
                ) from error
            raise DirectoryLocked(
                f"{self.path.parent} is in use by another run{f' (process {owner})' if owner else ''}. "
                "Wait for it to end, or give this run another name."
            ) from None
        self._file = file
        file.truncate(0)
        file.write(str(os.getpid()).encode())
        file.flush()

    def __enter__(self) -> "DirectoryLock":
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Free the lock; safe to call twice."""
        file, self._file = self._file, None
        if file is not None:
            _unlock(file)
            file.close()


if os.name == "nt":
    import msvcrt

    def _lock(file: IO[bytes]) -> None:
        file.seek(_LOCKED_BYTE)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

    def _unlock(file: IO[bytes]) -> None:
        file.seek(_LOCKED_BYTE)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _lock(file: IO[bytes]) -> None:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(file: IO[bytes]) -> None:
        fcntl.flock(file.fileno(), fcntl.LOCK_UN)

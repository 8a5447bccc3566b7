"""What another process takes while it works: memory of its own, mapped memory, bytes read, its largest piece."""

import re
import threading
from pathlib import Path

SECONDS_BETWEEN_LOOKS = 0.05
#: An anonymous mapping that can be written: start, end, and no file behind it.
ANONYMOUS = re.compile(rb"^([0-9a-f]+)-([0-9a-f]+) rw-p [0-9a-f]+ 00:00 0 *(?:\[heap\])?$", re.MULTILINE)


class Watch:
    """Look at a process of this computer (Linux) from a thread, as a context manager.

    Attributes, after the end:
        own_mb: the peak of what the process holds beside mapped files.
        extra_mb: the same, over what it held at the start.
        resident_gb: the peak of all its memory, mapped files included.
        read_gb: what was read from the disk for it.
        largest_mb: its largest anonymous mapping; neighbors count as one, so no allocation was larger.
    """

    def __init__(self, pid: int) -> None:
        self._proc = Path("/proc") / str(pid)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> "Watch":
        (self._proc / "clear_refs").write_text("5")  # the peak starts from here
        self._before, self._read_before = self._status("RssAnon"), self._read()
        self._own, self._largest = self._before, 0
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._end.set()
        self._thread.join()
        self.own_mb, self.extra_mb = self._own / 1e6, (self._own - self._before) / 1e6
        self.resident_gb = self._status("VmHWM") / 1e9
        self.read_gb = (self._read() - self._read_before) / 1e9
        self.largest_mb = self._largest / 1e6

    def figures(self) -> dict[str, float]:
        """Return what was seen."""
        names = ("own_mb", "extra_mb", "resident_gb", "read_gb", "largest_mb")
        return {name: round(getattr(self, name), 2) for name in names}

    def _look(self) -> None:
        try:
            while not self._end.wait(SECONDS_BETWEEN_LOOKS):
                self._own = max(self._own, self._status("RssAnon"))
                self._largest = max(self._largest, self._largest_mapping())
        except OSError:  # the process is gone, which whoever waits for it will say
            return

    def _status(self, name: str) -> int:
        text = (self._proc / "status").read_text()
        found = re.search(rf"{name}:\s+(\d+)", text)
        return 0 if found is None else 1024 * int(found[1])

    def _read(self) -> int:
        found = re.search(r"read_bytes: (\d+)", (self._proc / "io").read_text())
        assert found is not None
        return int(found[1])

    def _largest_mapping(self) -> int:
        found = ANONYMOUS.finditer((self._proc / "maps").read_bytes())
        return max((int(each[2], 16) - int(each[1], 16) for each in found), default=0)

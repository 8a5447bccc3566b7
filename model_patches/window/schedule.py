"""Read which value is due in which windows: lines such as ``1-3: 0.8`` or ``4: 0``. Windows count from 1."""

import math
import re
from itertools import pairwise

_LINE = re.compile(r"^\s*(\d{1,9})\s*(?:(-)\s*(\d{1,9}|end)?)?\s*:(.*)$")
MAX_LINES = 10_000


def value_in_window(schedule: str, index: int, default: str) -> str:
    """Return the value that is due in a window.

    Args:
        schedule: a line for one window (``4: 0``), several (``1-3: 0.8``) or all to the end (``5-: 1``, ``5-end: 1``).
        index: of the window, from 0.
        default: the value of windows that no line names.

    Raises:
        ValueError: a line that cannot be read, or two that name the same window.
    """
    due = [value for first, last, value in read_schedule(schedule) if first <= index + 1 <= last]
    return due[0] if due else default


def read_schedule(schedule: str) -> list[tuple[int, float, str]]:
    """Return (first window, last window, value) of every line, in order of their windows; windows count from 1."""
    lines = [(number, text) for number, text in enumerate(schedule.splitlines(), start=1) if text.strip()]
    if len(lines) > MAX_LINES:
        raise ValueError(f"The schedule has {len(lines)} lines; {MAX_LINES} are the most.")
    spans = sorted(_read_line(number, text) for number, text in lines)
    for (_, last, _), (first, _, _) in pairwise(spans):
        if first <= last:
            raise ValueError(
                f"Two lines of the schedule give a value for window {first}. Let their windows not overlap."
            )
    return spans


def _read_line(number: int, text: str) -> tuple[int, float, str]:
    match = _LINE.match(text)
    if match is None:
        raise ValueError(
            f"Line {number} of the schedule cannot be read: {text[:40]!r}. Write it as '1-3: 0.8', '4: 0' or "
            "'5-end: 1'."
        )
    first = int(match[1])
    open_end = match[2] and match[3] in (None, "end")
    last = float("inf") if open_end else int(match[3] or first)
    if first < 1 or last < first:
        raise ValueError(
            f"Line {number} of the schedule names windows {text.split(':')[0].strip()}; windows count from 1, and the "
            "last is not before the first."
        )
    return first, last, match[4].strip()


def number_of(value: str) -> float:
    """Return a value as a number; 0 for a text."""
    try:
        number = float(value)
    except ValueError:
        return 0.0
    return number if math.isfinite(number) else 0.0

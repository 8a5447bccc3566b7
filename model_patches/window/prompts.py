"""Read the prompts box: one line per window, or lines with time ranges.

Anyone can send a prompts box, so every step takes time in proportion to the text.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

MAX_CHARACTERS = 100_000
_TIME = r"(?:\d+:)?\d+(?:\.\d+)?"
_SEPARATOR = "(?:-|–|to)"
_RANGE = re.compile(rf"({_TIME}) ?s? ?{_SEPARATOR} ?(?:({_TIME}) ?s?|end)?", re.ASCII)
"""For texts without double blanks: with them, the time would grow with the cube of their number."""
_MEANT_AS_RANGE = re.compile(rf"0\d?:\d\d|{_TIME} ?s? ?(?:[-–—~]|to\b)(.*)", re.ASCII)
_WORD = re.compile(r"[^\W\d_]{2,}")
_UNITS = {"end", "to", "sec", "secs", "second", "seconds", "min", "mins", "minute", "minutes", "ms"}
_LONGEST_RANGE = 100
DIRECTION = re.compile(r"\[[ \t]*(?:window[ \t]*(\d+)|keep[ \t]+later)[ \t]*\]", re.ASCII | re.IGNORECASE)
"""The beginning of a line that is no prompt but sets something (see ``directions``)."""


@dataclass(frozen=True)
class TimedPrompt:
    """A prompt for the seconds from ``start_s`` to ``end_s`` of the new video."""

    text: str
    start_s: float
    end_s: float


Prompts = Sequence[str | TimedPrompt]


def parse_seconds(text: str) -> float:
    """Read ``75``, ``7.5`` or ``1:15`` as seconds."""
    minutes, _, seconds = text.rpartition(":")
    return 60 * float(minutes or 0) + float(seconds)


def check_text(text: str, name: str) -> None:
    """Refuse a text that is too long or holds half a character.

    Raises:
        ValueError: names the input and the place.
    """
    if len(text) > MAX_CHARACTERS:
        raise ValueError(
            f"{name} holds {len(text)} characters; it takes {MAX_CHARACTERS} at most. Shorten it."
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        line = text.count("\n", 0, error.start) + 1
        raise ValueError(
            f"Line {line} of {name} holds half a character (U+{ord(text[error.start]):04X}), as a broken copy of an "
            "emoji leaves it. Delete that character and type it again."
        ) from None


def parse_prompts(prompts: str) -> list[str | TimedPrompt]:
    """Split the prompts box into lines; ``[0:05-0:10] text`` becomes a ``TimedPrompt``, ``[5-end]`` runs on.

    Lines that set something are left out (see ``directions``).

    Raises:
        ValueError: a text that ``check_text`` refuses, a range that cannot be read or ends before it starts.
    """
    return [
        _parse_line(number, line) for number, line in numbered_lines(prompts) if not DIRECTION.match(line)
    ]


def numbered_lines(prompts: str) -> list[tuple[int, str]]:
    """Return the lines of the prompts box that are not empty, with their numbers from 1.

    Raises:
        ValueError: a text that ``check_text`` refuses.
    """
    check_text(prompts, "prompts")
    raw_lines = prompts.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    lines = ((number, raw.strip()) for number, raw in enumerate(raw_lines, start=1))
    return [(number, line) for number, line in lines if line]


def _parse_line(number: int, line: str) -> str | TimedPrompt:
    bracketed, bracket, text = line.removeprefix("[").partition("]")
    if not line.startswith("[") or not bracket:
        return line
    bracketed = " ".join(bracketed.split())
    match = _RANGE.fullmatch(bracketed) if len(bracketed) <= _LONGEST_RANGE else None
    if match is None:
        if _is_meant_as_range(bracketed):
            raise ValueError(
                f"Prompt line {number} starts with a time range that cannot be read: {line[:40]!r}. "
                "Write it as [0:05-0:10], [5-10] or [50-end], in minutes:seconds or seconds."
            )
        return line
    start_s = parse_seconds(match[1])
    end_s = parse_seconds(match[2]) if match[2] else float("inf")
    if end_s <= start_s:
        raise ValueError(
            f"Prompt line {number} ends at {match[2]} but starts at {match[1]}. Let the range end after it starts."
        )
    return TimedPrompt(text.strip(), start_s, end_s)


def _is_meant_as_range(bracketed: str) -> bool:
    """Tell a mistyped range ("0-x", "0:05") from words in brackets ("2D animation", "3-point light", "16:9 film")."""
    match = _MEANT_AS_RANGE.fullmatch(bracketed) if len(bracketed) <= _LONGEST_RANGE else None
    return match is not None and {word.lower() for word in _WORD.findall(match[1] or "")} <= _UNITS


def assign_prompts(prompts: Prompts, spans_s: Sequence[tuple[float, float]]) -> list[str]:
    """Give every window its prompt.

    Without time ranges line i belongs to window i, and the last line also to all later windows. With time ranges a
    window takes the range that holds its middle; gaps are filled by the one line without a range or, if there is none,
    by the prompt before.

    Args:
        prompts: from ``parse_prompts``.
        spans_s: (start, end) of every window's new frames in seconds.

    Raises:
        ValueError: more lines than windows, a range that holds the middle of no window, ranges that overlap.
    """
    timed = sorted((line for line in prompts if isinstance(line, TimedPrompt)), key=lambda line: line.start_s)
    untimed = [line for line in prompts if isinstance(line, str)]
    if not timed:
        return _one_per_window(untimed or [""], len(spans_s))
    _check_ranges(timed, untimed, total_s=spans_s[-1][1])
    middles = [(start_s + end_s) / 2 for start_s, end_s in spans_s]
    _check_each_is_used(timed, middles)
    return _by_time(timed, untimed, middles)


def _one_per_window(lines: list[str], num_windows: int) -> list[str]:
    if len(lines) > num_windows:
        raise ValueError(
            f"There are {len(lines)} prompt lines for {num_windows} window{'s' * (num_windows != 1)}. "
            "Remove lines or ask for a longer video."
        )
    return lines + [lines[-1]] * (num_windows - len(lines))


def _check_ranges(timed: list[TimedPrompt], untimed: list[str], *, total_s: float) -> None:
    if len(untimed) > 1:
        raise ValueError(
            f"{len(untimed)} prompt lines have no time range while others have one. "
            "Give every line a range, or leave one line without: it fills the gaps."
        )
    for before, after in pairwise(timed):
        if after.start_s < before.end_s:
            raise ValueError(
                f"The prompts from {before.start_s:g} s and from {after.start_s:g} s overlap. "
                "Let one end where the next starts."
            )
    if timed[-1].start_s >= total_s:
        raise ValueError(
            f"A prompt starts at {timed[-1].start_s:g} s but the video ends at {total_s:.2f} s. "
            "Remove it or ask for a longer video."
        )


def _check_each_is_used(timed: list[TimedPrompt], middles: list[float]) -> None:
    for line in timed:
        first = bisect_left(middles, line.start_s)
        if first == len(middles) or middles[first] >= line.end_s:
            raise ValueError(
                f"No window takes the prompt from {line.start_s:g} s to {line.end_s:g} s: a window takes the prompt "
                f"at its middle, and the nearest middle is at {_nearest(middles, line):.2f} s. Make the range longer, "
                "or window_length smaller."
            )


def _nearest(middles: list[float], line: TimedPrompt) -> float:
    return min(middles, key=lambda middle: abs(middle - (line.start_s + min(line.end_s, middles[-1])) / 2))


def _by_time(timed: list[TimedPrompt], untimed: list[str], middles: list[float]) -> list[str]:
    starts = [line.start_s for line in timed]
    texts = [timed[0].text]
    for middle in middles:
        line = timed[max(0, bisect_right(starts, middle) - 1)]
        is_inside = line.start_s <= middle < line.end_s
        texts.append(line.text if is_inside else (untimed or texts[-1:])[0])
    return texts[1:]

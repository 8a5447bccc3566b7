"""Read what the prompts box says about single windows: their seed, their last picture, and when later ones are kept."""

import re
from dataclasses import dataclass, field

from .prompts import DIRECTION, numbered_lines

_LIMIT = re.compile(r"\d{1,9}(?:\.\d{1,9})?", re.ASCII)
_SEED = re.compile(r"\d{1,20}", re.ASCII)
LARGEST_SEED = 2**64 - 1


@dataclass
class Directions:
    """What lines such as ``[window 3] seed 77`` say; windows count from 0 here.

    ends: names of pictures in the input folder. keep_later: how far, in delta E, the start of a later window may move
    for it to be kept; None keeps none. lines: the line number of each setting, by window and word.
    """

    seeds: dict[int, int] = field(default_factory=dict)
    ends: dict[int, str] = field(default_factory=dict)
    keep_later: float | None = None
    lines: dict[tuple[int, str], int] = field(default_factory=dict)

    def check(self, num_windows: int) -> None:
        """Refuse a line about a window that the video does not have.

        Raises:
            ValueError: names the line.
        """
        for (index, _), line in self.lines.items():
            if index >= num_windows:
                raise ValueError(
                    f"Prompt line {line} is about window {index + 1}; the video has {num_windows} "
                    f"window{'s' * (num_windows != 1)}. Remove the line or ask for a longer video."
                )


def read_directions(prompts: str) -> Directions:
    """Read the lines of the prompts box that set something instead of being prompts.

    Raises:
        ValueError: a line that cannot be read, or that sets the same thing as one before.
    """
    directions = Directions()
    for number, line in numbered_lines(prompts):
        if (match := DIRECTION.match(line)) is None:
            continue
        text = line[match.end() :].strip()
        if match[1] is None:
            _check_new(directions.keep_later is None, number, "[keep later]")
            directions.keep_later = _read_limit(number, text)
        else:
            _read_setting(directions, number, index=int(match[1].lstrip("0")[:9] or 0) - 1, text=text)
    return directions


def _read_setting(directions: Directions, number: int, *, index: int, text: str) -> None:
    if index < 0:
        raise ValueError(f"Prompt line {number} is about window 0; windows count from 1. Write [window 1].")
    written, value = [*text.split(None, 1), "", ""][:2]
    word = written.lower()
    settings = {"seed": (directions.seeds, _read_seed), "end": (directions.ends, _read_name)}
    if word not in settings:
        raise ValueError(
            f"Prompt line {number} sets {written[:40]!r} of window {index + 1}, which is not known. Write "
            f"'[window {index + 1}] seed 77' or '[window {index + 1}] end picture.png'."
        )
    values, read = settings[word]
    _check_new(index not in values, number, f"the {word} of window {index + 1}")
    values[index], directions.lines[index, word] = read(number, value), number


def _check_new(is_new: bool, number: int, what: str) -> None:
    if not is_new:
        raise ValueError(
            f"Prompt line {number} sets {what} again, which a line before has set. Remove one of them."
        )


def _read_seed(number: int, text: str) -> int:
    if not _SEED.fullmatch(text) or int(text) > LARGEST_SEED:
        raise ValueError(
            f"Prompt line {number} gives the seed {text[:40]!r}; it takes a whole number from 0 to {LARGEST_SEED}, "
            "such as '[window 3] seed 77'."
        )
    return int(text)


def _read_name(number: int, text: str) -> str:
    if not text:
        raise ValueError(
            f"Prompt line {number} names no picture. Write a file of the input folder, such as "
            "'[window 3] end castle.png'."
        )
    return text


def _read_limit(number: int, text: str) -> float:
    if not _LIMIT.fullmatch(text):
        raise ValueError(
            f"Prompt line {number} gives [keep later] the limit {text[:40]!r}; it takes a number of delta E from 0 up, "
            "such as '[keep later] 2.0'."
        )
    return float(text)

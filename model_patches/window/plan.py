"""Plan a long video as a chain of windows: lengths, overlaps, prompts and seeds. Pure functions, no tensors.

Latent frames and pixel frames follow the causal video VAE: latent frame 0 is pixel frame 0 alone, every
later latent frame is four pixel frames. A window of T latent frames whose first k are known from the window
before it adds T - k latent frames, 4 * (T - k) pixel frames.
"""

import hashlib
import re
from dataclasses import dataclass
from itertools import pairwise

from ..sizes import FRAMES_PER_LATENT

_TIME = r"(?:\d+:)?\d+(?:\.\d+)?"
_RANGE = re.compile(rf"^\[\s*({_TIME})\s*s?\s*(?:-|–|to)\s*(?:({_TIME})\s*s?|end)?\s*\]\s*(.*)$")


@dataclass(frozen=True)
class TimedPrompt:
    """A prompt for the seconds from ``start_s`` to ``end_s`` of the new video."""

    text: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Window:
    """One window of the plan; frames count from the first new frame of the video."""

    index: int
    num_latent_frames: int
    num_known_latent_frames: int
    num_new_latent_frames: int
    start_frame: int
    num_new_frames: int
    prompt: str
    seed: int


def num_frames_of(num_latent_frames: int) -> int:
    """Return the pixel frames that a clip of ``num_latent_frames`` decodes to."""
    return FRAMES_PER_LATENT * (num_latent_frames - 1) + 1 if num_latent_frames > 0 else 0


def check_window(window_latent: int, overlap_latent: int) -> None:
    """Refuse a window that cannot move forward.

    Raises:
        ValueError: the overlap is not at least 1 and smaller than the window.
    """
    if overlap_latent < 1:
        raise ValueError(
            f"overlap is {overlap_latent} latent frames; joining windows needs at least 1. Set overlap to 1 or more."
        )
    if overlap_latent >= window_latent:
        raise ValueError(
            f"overlap is {overlap_latent} latent frames and the window {window_latent} "
            f"({num_frames_of(window_latent)} frames), so a window would add nothing new. "
            f"Set overlap to {window_latent - 1} or less, or make the window longer."
        )


def new_latent_frames_for(seconds: float, *, fps: float, continues: bool) -> int:
    """Return the latent frames whose pixel frames come nearest to ``seconds`` (at least one)."""
    num_frames = seconds * fps
    num_latent = num_frames / FRAMES_PER_LATENT if continues else (num_frames - 1) / FRAMES_PER_LATENT + 1
    return max(1, round(num_latent))


def window_sizes(
    num_new_latent: int,
    *,
    window_latent: int,
    overlap_latent: int,
    continues: bool,
    has_end_image: bool = False,
) -> list[int]:
    """Return how many new latent frames every window keeps; the last one is cut to fit.

    With an end image the last two share what they keep, so that the way to the picture is never a jump of few frames.
    """
    check_window(window_latent, overlap_latent)
    first = window_latent - overlap_latent if continues else window_latent
    sizes = [min(first, num_new_latent)]
    while (missing := num_new_latent - sum(sizes)) > 0:
        sizes.append(min(window_latent - overlap_latent, missing))
    if has_end_image and len(sizes) > 1:
        moved = min((sizes[-2] - sizes[-1] + 1) // 2, window_latent - overlap_latent - sizes[-1])
        sizes[-2:] = [sizes[-2] - moved, sizes[-1] + moved]
    return sizes


def plan_windows(
    sizes: list[int],
    *,
    window_latent: int,
    overlap_latent: int,
    continues: bool,
    prompts: str,
    fps: float,
    seed: int,
) -> list[Window]:
    """Return the windows of a run, each with its prompt and its seed.

    Args:
        sizes: new latent frames of every window (from ``window_sizes``).
        continues: the first window continues earlier frames instead of starting from an image.
        prompts: the text of the prompts box.
    """
    spans, start = [], 0
    for index, num_new_latent in enumerate(sizes):
        first_of_clip = index == 0 and not continues
        num_new = num_frames_of(num_new_latent) if first_of_clip else FRAMES_PER_LATENT * num_new_latent
        spans.append((start, num_new))
        start += num_new
    texts = assign_prompts(prompts, [(s / fps, (s + n) / fps) for s, n in spans])
    return [
        Window(
            index=index,
            num_latent_frames=window_latent,
            num_known_latent_frames=overlap_latent if continues or index else 1,
            num_new_latent_frames=sizes[index],
            start_frame=spans[index][0],
            num_new_frames=spans[index][1],
            prompt=texts[index],
            seed=window_seed(seed, index),
        )
        for index in range(len(sizes))
    ]


def window_seed(seed: int, index: int, attempt: int = 0) -> int:
    """Derive the seed of a window; the first window's first attempt keeps ``seed``, so it equals a single clip."""
    if index == 0 and attempt == 0:
        return seed
    digest = hashlib.sha256(f"{seed}/{index}/{attempt}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def parse_seconds(text: str) -> float:
    """Read ``75``, ``7.5`` or ``1:15`` as seconds."""
    minutes, _, seconds = text.rpartition(":")
    return 60 * int(minutes or 0) + float(seconds)


def parse_prompts(prompts: str) -> list[str | TimedPrompt]:
    """Split the prompts box into lines; ``[0:05-0:10] text`` becomes a ``TimedPrompt``, ``[5-end]`` runs on."""
    lines = []
    for number, raw in enumerate(prompts.splitlines(), start=1):
        line = raw.strip()
        if not line:
            continue
        match = _RANGE.match(line)
        if match is None:
            if re.match(r"^\[\s*[\d:]", line):
                raise ValueError(
                    f"Prompt line {number} starts with a time range that cannot be read: {line[:40]!r}. "
                    "Write it as [0:05-0:10], [5-10] or [50-end], in minutes:seconds or seconds."
                )
            lines.append(line)
            continue
        start_s = parse_seconds(match[1])
        end_s = parse_seconds(match[2]) if match[2] else float("inf")
        if end_s <= start_s:
            raise ValueError(
                f"Prompt line {number} ends at {match[2]} but starts at {match[1]}. Let the range end after it starts."
            )
        lines.append(TimedPrompt(match[3].strip(), start_s, end_s))
    return lines


def assign_prompts(prompts: str, spans_s: list[tuple[float, float]]) -> list[str]:
    """Give every window its prompt.

    Without time ranges line i belongs to window i and the last line goes on to the end. With time ranges a
    window takes the range that holds its middle; the one line without a range fills the gaps, else the prompt
    before goes on.

    Args:
        spans_s: (start, end) of every window's new frames in seconds.

    Raises:
        ValueError: more lines than windows, a range that no window takes, ranges that overlap.
    """
    lines = parse_prompts(prompts)
    timed = sorted((line for line in lines if isinstance(line, TimedPrompt)), key=lambda line: line.start_s)
    plain = [line for line in lines if isinstance(line, str)]
    if not timed:
        return _one_a_window(plain or [""], len(spans_s))
    _check_ranges(timed, plain, total_s=spans_s[-1][1])
    _check_each_is_used(timed, spans_s)
    return _by_time(timed, plain, spans_s)


def _one_a_window(lines: list[str], num_windows: int) -> list[str]:
    if len(lines) > num_windows:
        raise ValueError(
            f"There are {len(lines)} prompt lines for {num_windows} window{'s' * (num_windows != 1)}. "
            "Remove lines or ask for a longer video."
        )
    return lines + [lines[-1]] * (num_windows - len(lines))


def _check_ranges(timed: list[TimedPrompt], plain: list[str], *, total_s: float) -> None:
    if len(plain) > 1:
        raise ValueError(
            f"{len(plain)} prompt lines have no time range while others have one. "
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


def _check_each_is_used(timed: list[TimedPrompt], spans_s: list[tuple[float, float]]) -> None:
    middles = [(start_s + end_s) / 2 for start_s, end_s in spans_s]
    for line in timed:
        if not any(line.start_s <= middle < line.end_s for middle in middles):
            raise ValueError(
                f"No window takes the prompt from {line.start_s:g} s to {line.end_s:g} s: a window takes the prompt "
                f"at its middle, and the nearest middle is at {_nearest(middles, line):.2f} s. Make the range longer, "
                "or the windows shorter."
            )


def _nearest(middles: list[float], line: TimedPrompt) -> float:
    return min(middles, key=lambda middle: abs(middle - (line.start_s + min(line.end_s, middles[-1])) / 2))


def _by_time(timed: list[TimedPrompt], plain: list[str], spans_s: list[tuple[float, float]]) -> list[str]:
    texts: list[str] = []
    for start_s, end_s in spans_s:
        middle = (start_s + end_s) / 2
        inside = [line.text for line in timed if line.start_s <= middle < line.end_s]
        going_on = texts[-1:] or [timed[0].text]
        texts.append((inside or plain or going_on)[0])
    return texts

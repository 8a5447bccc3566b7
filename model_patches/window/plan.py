"""Plan a long video as a chain of windows: lengths, overlaps, prompts and seeds. Pure functions, no tensors.

Latent frames and pixel frames follow the causal video VAE: latent frame 0 is pixel frame 0 alone, every
later latent frame is four pixel frames. A window of T latent frames whose first k are known from the window
before it adds T - k latent frames, 4 * (T - k) pixel frames.
"""

import hashlib
from dataclasses import dataclass, replace

from ..sizes import FRAMES_PER_LATENT, num_frames_of
from .directions import read_directions
from .prompts import Prompts, assign_prompts, parse_prompts
from .settings import WINDOWS, WindowSettings


@dataclass(frozen=True)
class Planned:
    """One window of a plan, whatever makes it; frames count from the first new frame of the video."""

    index: int
    start_frame: int
    num_new_frames: int
    prompt: str
    seed: int


@dataclass(frozen=True)
class Window(Planned):
    """A window that a MODEL makes as latent frames."""

    num_latent_frames: int
    num_known_latent_frames: int
    num_new_latent_frames: int


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


def plan_run(settings: WindowSettings, *, continues: bool, has_end_image: bool) -> list[Window]:
    """Return the windows that a run's settings ask for.

    Args:
        continues: the run continues a video or latent instead of starting from an image.
        has_end_image: an end image is connected, on which the last window ends; the prompts can name one too.
    """
    window, overlap = settings.window_latent, settings.overlap
    if settings.length_in == WINDOWS:
        num_new = max(1, round(settings.length)) * (window - overlap) + (0 if continues else overlap)
    else:
        num_new = new_latent_frames_for(settings.length, fps=settings.fps, continues=continues)
    shape = {"window_latent": window, "overlap_latent": overlap, "continues": continues}
    directions = read_directions(settings.prompts)
    last = len(window_sizes(num_new, **shape)) - 1
    windows = plan_windows(
        window_sizes(num_new, **shape, has_end_image=has_end_image or last in directions.ends),
        **shape,
        prompts=parse_prompts(settings.prompts),
        fps=settings.fps,
        seed=settings.seed,
    )
    directions.check(len(windows))
    return [replace(window, seed=directions.seeds.get(window.index, window.seed)) for window in windows]


def window_sizes(
    num_new_latent: int,
    *,
    window_latent: int,
    overlap_latent: int,
    continues: bool,
    has_end_image: bool = False,
) -> list[int]:
    """Return how many new latent frames every window keeps; the last one is cut to fit.

    With an end image the last two windows share their frames evenly, so that the last one has time to reach it.
    """
    check_window(window_latent, overlap_latent)
    first = window_latent - overlap_latent if continues else window_latent
    sizes = [min(first, num_new_latent)]
    whole, rest = divmod(num_new_latent - sizes[0], window_latent - overlap_latent)
    sizes += [window_latent - overlap_latent] * whole + [rest] * (rest > 0)
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
    prompts: Prompts,
    fps: float,
    seed: int,
) -> list[Window]:
    """Return the windows of a run, each with its prompt and its seed.

    Args:
        sizes: new latent frames of every window (from ``window_sizes``).
        continues: the first window continues earlier frames instead of starting from an image.
        prompts: from ``parse_prompts``.
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


def attempt_seed(run_seed: int, index: int, *, first: int, attempt: int) -> int:
    """Return the seed of an attempt at a window: derived from the run's seed, or from the window's own if it has one.

    Args:
        first: the seed of the first attempt.
    """
    if attempt == 0:
        return first
    has_own_seed = first != window_seed(run_seed, index)
    return window_seed(first if has_own_seed else run_seed, index, attempt)

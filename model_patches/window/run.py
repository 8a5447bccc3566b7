"""A long video in the making: which window is next, what it goes on from, what is kept of it.

Nothing here knows how a window is made. Whoever makes one asks ``next_window``, gives its frames to ``judge`` and what
came of that to ``finish``. The frames are enough; what a maker needs beside them (latents, counts) travels in
``state``, whatever it is.
"""

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor

from ..measures import mean_lab
from ..store.pictures import to_uint8
from .directions import Directions
from .entries import RunDirectoryBroken
from .journal import ChainedKeys, chain_keys, key_after
from .later import FOLLOWED, followed_take, kept_later
from .measure import measure_window, seam_badness
from .palette import Palette, hold_palette, read_palette
from .plan import Planned, Window
from .report import build_report
from .store import WindowStore
from .tail import Tail, from_uint8, read_tail, tail_tensors

SEAM_FRAMES = 5
MAX_REROLLS = 2
"""How often a window over the limits is made again."""


@dataclass(frozen=True)
class Limits:
    """What windows are held to: the first one's colors (0 to 1), seam and course of the motion (0: no limit)."""

    color_anchor: float = 0.0
    reroll_threshold: float = 0.0
    turn_limit: float = 0.0


@dataclass(frozen=True)
class Reference:
    """What later windows are held to: the mean Lab (3,) and the palette of the first."""

    lab: Tensor
    palette: Palette


@dataclass(frozen=True)
class Clip:
    """A window's new frames (n, H, W, 3) in [0, 1], the seed they were made with, and the state behind them."""

    frames: Tensor
    seed: int
    state: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Judged:
    """A clip with its colors held, its measures, and how far it exceeds the limits: up to 1 is good."""

    clip: Clip
    measures: dict[str, float]
    over: float


@dataclass(frozen=True)
class Begin:
    """What a run goes on from: the tail and the reference of the video before it; None for one from an image.

    keep_frames: how many of the last frames the maker of the next window may ask for. first: (1, H, W, 3), the first
    frame of all.
    """

    keep_frames: int
    tail: Tail | None = None
    reference: Reference | None = None
    first: Tensor | None = None


PlannedWindow = TypeVar("PlannedWindow", bound=Planned)


class WindowRun(Generic[PlannedWindow]):
    """One run of windows on disk, driven a window at a time.

    Args:
        store: open; what it holds of this plan is taken over.
        windows: the plan.
        keys: of ``window_keys``, one a window.
        limits: what windows are held to.
        begin: what the first window goes on from.
        directions: what the artist says of single windows.
    Attributes:
        kept: the windows that an earlier run had finished.
    """

    def __init__(
        self,
        store: WindowStore,
        windows: list[PlannedWindow],
        keys: list[str],
        limits: Limits,
        begin: Begin,
        *,
        directions: Directions | None = None,
    ) -> None:
        self.store, self.windows, self.keys, self.limits = store, windows, keys, limits
        self.directions = directions or Directions()
        self.notes = store.restore(keys, keep_later=self.directions.keep_later)
        self.kept = set(range(self.num_done))
        self.tail, self.reference = self._restored(begin)
        self._first = begin.first
        self._num_known = begin.keep_frames
        self._began = time.monotonic()

    @property
    def num_done(self) -> int:
        """Return how many windows are finished."""
        return len(self.store.entries)

    @property
    def num_kept(self) -> int:
        """Return how many windows an earlier run had finished."""
        return len(self.kept)

    @property
    def facts(self) -> list[dict]:
        """Return what the report says of the finished windows."""
        return [entry.facts for entry in self.store.entries]

    def report(self, video: Path, *, settings: dict, notes: Sequence[str]) -> dict:
        """Return the report of the joined video; ``notes`` are told behind the run's own."""
        return build_report(
            self.facts,
            settings=settings,
            notes=[*self.notes, *kept_later(self.store.entries), *notes],
            num_windows=len(self.windows),
            video=str(video),
            num_kept=self.num_kept,
        )

    def next_window(self) -> PlannedWindow | None:
        """Return the window to make now, or None when all are finished; its time begins to count."""
        self._began = time.monotonic()
        return self.windows[self.num_done] if self.num_done < len(self.windows) else None

    def judge(self, window: PlannedWindow, clip: Clip) -> Judged:
        """Hold a clip's colors to the first window's and measure it against what comes before."""
        if self.reference is not None:
            frames = hold_palette(clip.frames, self.reference.palette, self.limits.color_anchor)
            clip = Clip(frames, clip.seed, clip.state)
        measures = measure_window(
            clip.frames,
            reference_lab=mean_lab(clip.frames) if self.reference is None else self.reference.lab,
            before=None if self.tail is None else from_uint8(self.tail.frames),
            held=motion_to_hold(window.prompt, self.facts),
            start=self._first,
        )
        return Judged(clip, measures, times_over_limits(measures, self.limits))

    def best(self, window: PlannedWindow, make: Callable[[PlannedWindow, int], Clip]) -> tuple[Judged, int]:
        """Make a window, again while it exceeds a limit; return the best, and how often it was made.

        Args:
            make: gives a clip for the window and the number of the attempt, from 0.
        """
        best = self.judge(window, make(window, 0))
        attempts = 1
        while best.over > 1 and attempts <= MAX_REROLLS:
            best = min(best, self.judge(window, make(window, attempts)), key=lambda judged: judged.over)
            attempts += 1
        return best, attempts

    def finish(self, window: PlannedWindow, judged: Judged, *, attempts: int = 1) -> None:
        """Put a window on disk; the next one goes on from it, or from the later ones that are kept."""
        clip, first, index = judged.clip, self.reference is None, window.index
        if self.reference is None:
            self.reference = make_reference(clip.frames)
        tail = advance(self.tail, clip, keep=max(self._num_known, SEAM_FRAMES))
        followed = followed_take(self.store, index, tail, self._num_known)
        tensors = tail_tensors(tail) | (reference_tensors(self.reference) if first else {})
        facts = window_facts(window, judged, attempts, time.monotonic() - self._began)
        facts |= {"planned_seed": window.seed, "end": self.directions.ends.get(index, "")}
        key = key_after(self.keys, index, self.store.entries[-1].key if index else None)
        links = {}
        if followed is not None:
            tensors[FOLLOWED], links = followed.frames, followed.noted
        self.store.save(index, key, clip.frames, tensors=tensors, facts=facts, **links)
        self.tail = tail
        if followed is not None and self.directions.keep_later is not None:
            self._keep_later()

    def _keep_later(self) -> None:
        """Take over the windows behind the one that was made, as far as they may be kept."""
        first = self.num_done
        self.notes += self.store.go_on(self.keys, keep_later=self.directions.keep_later)
        if self.num_done > first:
            self.kept |= set(range(first, self.num_done))
            self.tail = read_tail(self.store.journal.tensors(self.num_done - 1))

    def _restored(self, begin: Begin) -> tuple[Tail | None, Reference | None]:
        """Return tail and reference after the windows taken over, or those the run begins with."""
        if not self.store.entries:
            return begin.tail, begin.reference
        try:
            tail = read_tail(self.store.journal.tensors(self.num_done - 1))
            return tail, begin.reference or read_reference(self.store.journal.tensors(0))
        except (KeyError, RuntimeError) as error:
            raise RunDirectoryBroken(
                f"The tensors in {self.store.folder / 'windows'} are not those of a window ({error}). Delete the "
                "folder or give this run another name."
            ) from error


def window_keys(
    windows: list[Window], shared: dict, *, end_images: Mapping[int, str] | None = None
) -> ChainedKeys:
    """Return the journal's key of every window.

    Args:
        shared: what would change every frame.
        end_images: hashes of the pictures that windows end on.
    """
    return chain_keys(shared, [special_of(window, end_images or {}) for window in windows])


def special_of(window: Planned, end_images: Mapping[int, str]) -> dict:
    """Return what is special to a window, for its key."""
    ending = {"end_image": end_images[window.index]} if window.index in end_images else {}
    return vars(window) | ending


def times_over_limits(measures: Mapping[str, float], limits: Limits) -> float:
    """Return how far a window exceeds the limits on seam and turn: up to 1 is good, without limits all are."""
    over = [0.0]
    if limit := limits.reroll_threshold:
        over.append(seam_badness(measures.get("seam_motion", 1.0)) / max(limit, 1 / limit))
    if limits.turn_limit:
        over.append(measures.get("turned_deg", 0.0) / limits.turn_limit)
    return max(over)


def motion_to_hold(prompt: str, finished: Sequence[dict]) -> tuple[float, float] | None:
    """Return the motion of the window with which this prompt began, None for a window that begins one itself.

    Args:
        finished: the facts of all windows before (see ``window_facts``), the same live and resumed.
    """
    same = list(itertools.takewhile(lambda facts: facts["prompt"] == prompt, reversed(finished)))
    measures = same[-1]["measures"] if same else {}
    return (measures["motion_right"], measures["motion_down"]) if "motion_right" in measures else None


def window_facts(window: Planned, judged: Judged, attempts: int, seconds: float) -> dict:
    """Return what the report says of a window."""
    return {
        "index": window.index,
        "prompt": window.prompt,
        "seed": judged.clip.seed,
        "attempts": attempts,
        "start_frame": window.start_frame,
        "num_new_frames": window.num_new_frames,
        "seconds": round(seconds, 3),
        "measures": {name: round(value, 5) for name, value in judged.measures.items()},
    }


def advance(tail: Tail | None, clip: Clip, *, keep: int) -> Tail:
    """Return the tail after a clip: its last ``keep`` frames, with those before it where it is shorter."""
    frames = to_uint8(clip.frames[-keep:])  # as they are on disk, so that a resumed run goes on from the same
    if tail is not None:
        frames = torch.cat([tail.frames, frames])
    return Tail(frames[-keep:].clone(), clip.state)


def make_reference(frames: Tensor) -> Reference:
    """Return what later windows are held to; frames: (m, H, W, 3) in [0, 1]."""
    return Reference(mean_lab(frames), read_palette(frames))


def reference_tensors(reference: Reference) -> dict[str, Tensor]:
    """Write a reference as the journal's tensors."""
    palette = {f"reference.palette.{name}": value for name, value in vars(reference.palette).items()}
    return {"reference.lab": reference.lab, **palette}


def read_reference(tensors: Mapping[str, Tensor]) -> Reference:
    """Return the reference that ``reference_tensors`` wrote."""
    palette = Palette(*(tensors[f"reference.palette.{field.name}"] for field in fields(Palette)))
    return Reference(tensors["reference.lab"], palette)

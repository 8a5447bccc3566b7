"""Drive a long video window by window: which window is next, what it continues, what is kept of it.

Nothing here knows how a window is made. A maker asks ``next_window``, passes the frames it made to ``judge``, and the
result to ``finish``. Frames are enough; whatever else a maker needs later (latents, counts) travels in ``state``.
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
"""How often a window that exceeds the limits is made again."""


@dataclass(frozen=True)
class Limits:
    """How strongly colors are held (0 to 1), and how far a seam's motion and its direction may be off (0: no limit)."""

    color_anchor: float = 0.0
    reroll_threshold: float = 0.0
    turn_limit: float = 0.0


@dataclass(frozen=True)
class Reference:
    """The mean Lab (3,) and the palette of the first window, which later windows are compared with and held to."""

    lab: Tensor
    palette: Palette


@dataclass(frozen=True)
class Clip:
    """A window's new frames (n, H, W, 3) in [0, 1], the seed they were made with, and the maker's state after them."""

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
    """What a run continues: the tail and the reference of the video before it, None for a run from an image.

    keep_frames: how many frames at the end the next window needs. first: (1, H, W, 3), the first frame of the video.
    """

    keep_frames: int
    tail: Tail | None = None
    reference: Reference | None = None
    first: Tensor | None = None


PlannedWindow = TypeVar("PlannedWindow", bound=Planned)


class WindowRun(Generic[PlannedWindow]):
    """One run of windows on disk, driven one window at a time.

    Args:
        store: open; the finished windows in it are taken over.
        windows: the plan.
        keys: from ``window_keys``, one per window.
        limits: what windows are held to.
        begin: what the first window continues.
        directions: what the artist sets for single windows.
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
        """Return what the report says about the finished windows."""
        return [entry.facts for entry in self.store.entries]

    def report(self, video: Path, *, settings: dict, notes: Sequence[str]) -> dict:
        """Return the report of the joined video; ``notes`` follow those of the run itself."""
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
            wanted_motion=wanted_motion(window.prompt, self.facts),
            start=self._first,
        )
        return Judged(clip, measures, times_over_limits(measures, self.limits))

    def best(self, window: PlannedWindow, make: Callable[..., Clip]) -> tuple[Judged, int]:
        """Make a window, again while it exceeds a limit; return the best, and how often it was made.

        Args:
            make: makes a clip of (window, tail, attempt=); attempts count from 0.
        """
        best, attempts = self.judge(window, make(window, self.tail, attempt=0)), 1
        while best.over > 1 and attempts <= MAX_REROLLS:
            another = self.judge(window, make(window, self.tail, attempt=attempts))
            best = min(best, another, key=lambda judged: judged.over)
            attempts += 1
        return best, attempts

    def finish(self, window: PlannedWindow, judged: Judged, *, attempts: int = 1) -> None:
        """Put a window on disk; the next one continues it, or the last of the later windows that are kept."""
        clip, index = judged.clip, window.index
        tensors = {}
        if self.reference is None:
            self.reference = make_reference(clip.frames)
            tensors = reference_tensors(self.reference)
        tail = advance(self.tail, clip, keep=max(self._num_known, SEAM_FRAMES))
        followed = followed_take(self.store, index, tail, self._num_known)
        tensors |= tail_tensors(tail)
        facts = window_facts(window, judged, attempts, time.monotonic() - self._began)
        facts |= {"planned_seed": window.seed, "end": self.directions.ends.get(index, "")}
        key = key_after(self.keys, index, self.store.entries[-1].key if index else None)
        relations = {}
        if followed is not None:
            tensors[FOLLOWED], relations = followed.frames, followed.entry_fields
        self.store.save(index, key, clip.frames, tensors=tensors, facts=facts, **relations)
        self.tail = tail
        if followed is not None and self.directions.keep_later is not None:
            self._keep_later()

    def _keep_later(self) -> None:
        """Take over the windows after the one that was made, as far as they may be kept."""
        first = self.num_done
        self.notes += self.store.take_over(self.keys, keep_later=self.directions.keep_later)
        if self.num_done > first:
            self.kept |= set(range(first, self.num_done))
            self.tail = read_tail(self.store.journal.tensors(self.num_done - 1))

    def _restored(self, begin: Begin) -> tuple[Tail | None, Reference | None]:
        """Return the tail and the reference after the finished windows, or those the run begins with."""
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
        shared: settings that change every frame.
        end_images: hashes of the pictures that windows end on.
    """
    return chain_keys(shared, [key_part(window, end_images or {}) for window in windows])


def key_part(window: Planned, end_images: Mapping[int, str]) -> dict:
    """Return what a window's key hashes beside the key before it."""
    ending = {"end_image": end_images[window.index]} if window.index in end_images else {}
    return vars(window) | ending


def times_over_limits(measures: Mapping[str, float], limits: Limits) -> float:
    """Return how far a window exceeds the limits on seam and turn: up to 1 is good; 0 if there are no limits."""
    over = [0.0]
    if limit := limits.reroll_threshold:
        over.append(seam_badness(measures.get("seam_motion", 1.0)) / max(limit, 1 / limit))
    if limits.turn_limit:
        over.append(measures.get("turned_deg", 0.0) / limits.turn_limit)
    return max(over)


def wanted_motion(prompt: str, finished: Sequence[dict]) -> tuple[float, float] | None:
    """Return the motion of the window where this prompt began, None for a window that begins a prompt itself.

    Args:
        finished: the facts of all windows before (see ``window_facts``); a resumed run has the same.
    """
    same = list(itertools.takewhile(lambda facts: facts["prompt"] == prompt, reversed(finished)))
    measures = same[-1]["measures"] if same else {}
    return (measures["motion_right"], measures["motion_down"]) if "motion_right" in measures else None


def window_facts(window: Planned, judged: Judged, attempts: int, seconds: float) -> dict:
    """Return what the report says about a window."""
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
    frames = to_uint8(clip.frames[-keep:])  # as on disk: a resumed run continues the very same frames
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

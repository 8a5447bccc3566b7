"""Describe the finished windows for the cards that a page shows."""

from dataclasses import dataclass
from pathlib import Path

from .entries import Entry
from .later import start_difference
from .plan import window_seed
from .run import WindowRun
from .store import WindowStore


@dataclass(frozen=True)
class Place:
    """Where a run's windows are: their folder inside the output folder, and their time in the video.

    num_before: frames of the video that is continued.
    """

    subfolder: str
    fps: float
    num_before: int = 0


def window_cards(run: WindowRun, place: Place, *, first: int = 0) -> list[dict]:
    """Return the cards of the finished windows from ``first`` on, as plain values.

    Seeds are strings: JavaScript cannot hold integers of that size.
    """
    return [_card(run, place, index) for index in range(first, run.num_done)]


def _card(run: WindowRun, place: Place, index: int) -> dict:
    window, entry = run.windows[index], run.store.entries[index]
    start = place.num_before + window.start_frame
    return {
        "index": index,
        "start_s": start / place.fps,
        "end_s": (start + window.num_new_frames) / place.fps,
        "prompt": window.prompt,
        "seed": str(window.seed),
        "end": run.directions.ends.get(index, ""),
        "seconds": entry.facts["seconds"],
        "bytes": sum((run.store.folder / name).stat().st_size for name in entry.files),
        "attempts": entry.facts["attempts"],
        "kept": index in run.kept,
        "measures": entry.facts["measures"],
        "file": _file(place, run.store.segment_name(index)),
        "start_difference": start_difference(run.store.entries, index),
        "takes": [_take(run.store, place, take) for take in run.store.other_takes(entry)],
    }


def _take(store: WindowStore, place: Place, take: Entry) -> dict:
    """Return the settings that a take was made with, and its file."""
    # older versions write no planned seed: theirs are always derived
    derived = window_seed(store.journal.settings["seed"], take.index)
    name = store.journal.takes.folder_of(take).relative_to(store.folder) / store.segment_name(take.index)
    return {
        "prompt": take.facts["prompt"],
        "seed": str(take.facts.get("planned_seed", derived)),
        "end": take.facts.get("end", ""),
        "file": _file(place, name.as_posix()),
    }


def _file(place: Place, name: str) -> dict:
    """Return a file as the host's view route expects it."""
    path = Path(place.subfolder, name)
    return {"filename": path.name, "subfolder": path.parent.as_posix(), "type": "output"}

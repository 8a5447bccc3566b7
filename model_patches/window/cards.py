"""Say of every finished window what a page shows of it."""

from dataclasses import dataclass
from pathlib import Path

from .entries import Entry
from .later import start_difference
from .plan import window_seed
from .run import WindowRun
from .store import WindowStore


@dataclass(frozen=True)
class Place:
    """Where a run's windows are found: the folder of the video in the output folder, and their time in it.

    num_before: frames of the video that is continued.
    """

    subfolder: str
    fps: float
    num_before: int = 0


def window_cards(run: WindowRun, place: Place, *, first: int = 0) -> list[dict]:
    """Return what is known of the finished windows from ``first`` on, as plain values.

    Seeds are texts: JavaScript has no numbers of that size.
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
    """Return what makes a take the one that is shown: the settings it was made with."""
    derived = window_seed(
        store.journal.settings["seed"], take.index
    )  # older versions have no other, and write none
    name = store.journal.takes.room(take).relative_to(store.folder) / store.segment_name(take.index)
    return {
        "prompt": take.facts["prompt"],
        "seed": str(take.facts.get("planned_seed", derived)),
        "end": take.facts.get("end", ""),
        "file": _file(place, name.as_posix()),
    }


def _file(place: Place, name: str) -> dict:
    """Return what the host's view route takes."""
    path = Path(place.subfolder, name)
    return {"filename": path.name, "subfolder": path.parent.as_posix(), "type": "output"}

"""Summarize a run of windows as a JSON document that people can read too."""

import json
from collections.abc import Sequence

from ..plots.drift import DRIFT_PANELS
from .complaints import complaints, name_windows
from .measure import summarize

MEASURES = {"color_shift", "brightness", "sharpness"}
"""What every window's measures hold."""
GROWN = 1.15
"""A contrast this many times the first window's is reported."""
LARGEST = 1e12
"""Larger than any time in seconds and any measure."""


def build_report(
    facts: Sequence[dict],
    *,
    settings: dict,
    notes: Sequence[str],
    num_windows: int,
    video: str,
    num_kept: int = 0,
) -> dict:
    """Return the report of a run.

    Args:
        facts: one per finished window (see ``run.window_facts``).
        settings: those that all windows share.
        notes: sentences on what was resumed, made again or found damaged.
        num_kept: how many windows an earlier run had finished.
    """
    summary = summarize([window["measures"] for window in facts])
    return {
        "summary": [headline(facts, num_windows), *drift_lines(summary), *complaints(facts), *notes],
        "video": video,
        "drift": summary,
        "settings": settings,
        "windows": list(facts),
        "num_kept": num_kept,
    }


def check_facts(facts: dict, index: int) -> None:
    """Refuse facts read from disk that no report can be made of.

    Raises:
        ValueError: names the first that is missing or of another kind.
    """
    measures = facts["measures"] if isinstance(facts.get("measures"), dict) else {}
    numbers = [facts.get("seconds"), *measures.values()]
    integers = {
        name: facts.get(name) for name in ("index", "seed", "attempts", "start_frame", "num_new_frames")
    }
    integers["planned_seed"] = facts.get("planned_seed", 0)
    wrong = [name for name, value in integers.items() if not (type(value) is int and 0 <= value < 2**64)]
    is_right = {
        "index": facts.get("index") == index,
        "measures": measures.keys() >= MEASURES,
        "a number": all(type(number) in (int, float) and abs(number) < LARGEST for number in numbers),
        "end": isinstance(facts.get("end", ""), str),
        "prompt": isinstance(facts.get("prompt"), str),
    }
    wrong += [name for name, right in is_right.items() if not right]
    if wrong:
        raise ValueError(f"its facts are damaged: {wrong[0]}")


def report_text(report: dict) -> str:
    """Write a report as JSON."""
    return json.dumps(report, indent=1, ensure_ascii=False)


def headline(facts: Sequence[dict], num_windows: int) -> str:
    """Return how much was made and how long it took, as a sentence."""
    frames = sum(window["num_new_frames"] for window in facts)
    seconds = sum(window["seconds"] for window in facts)
    attempts = sum(window["attempts"] - 1 for window in facts)
    again = f", {attempts} of them made again" if attempts else ""
    return f"{len(facts)} of {num_windows} windows, {frames} new frames, {seconds:.0f} s of work{again}."


def drift_lines(summary: dict[str, float]) -> list[str]:
    """Describe the drift in a few sentences."""
    if not summary:
        return []
    lines = [
        f"Color at the end is {summary['color_shift_last']:.1f} delta E from the first window; brightness changed "
        f"by {100 * summary['brightness_change']:+.1f} %, sharpness is {100 * summary['sharpness_kept']:.0f} % of it."
    ]
    if summary.get("contrast_kept", 1.0) >= GROWN:
        lines.append(
            f"Contrast grew to {100 * summary['contrast_kept']:.0f} % of the first window's. Lower cfg, or hold the "
            "colors with color_anchor."
        )
    if "turned_max_deg" in summary:
        lines.append(
            f"The motion turned by up to {summary['turned_max_deg']:.0f} degrees while a prompt lasted."
        )
    if "seams_ok_share" in summary:
        lines.append(
            f"{100 * summary['seams_ok_share']:.0f} % of the seams are within twice the motion beside them; "
            f"the worst is {summary['seam_worst']:.1f} times off."
        )
    return lines


def verdict(windows: Sequence[dict[str, float]]) -> list[str]:
    """Return a sentence that a video is steady, or sentences on which windows are not and what to do.

    Args:
        windows: the measures of every window, in order.
    """
    if not windows:
        return []
    faults = [(panel, bad) for panel in DRIFT_PANELS if (bad := panel.bad_windows(windows))]
    lines = [
        f"{name_windows(bad)}: {panel.title} is outside its band. {panel.remedy}" for panel, bad in faults
    ]
    return lines or ["Steady: every measure of every window stays in its band."]


def seam_frames(report: dict) -> list[int]:
    """Return the first frame of every window after the first, counted in the whole video."""
    offset = report["settings"].get("source_frames", 0)
    starts = [offset + window["start_frame"] for window in report["windows"]]
    return [start for start in starts if start > 0]


def first_measured_frame(report: dict) -> int:
    """Return the first frame to measure: a window's length before the first new frame of a continued video."""
    longest = max((window["num_new_frames"] for window in report["windows"]), default=0)
    return max(0, report["settings"].get("source_frames", 0) - longest)

"""Name the faults that artists see in chained clips, where the measures of a window's seam show them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .clips import KNOWN_DIFFERENCE

MOST_NAMED = 6
"""How many windows a sentence lists; it only counts the rest."""


@dataclass(frozen=True)
class Complaint:
    """Something that goes wrong at seams.

    measure: a name from ``measure_window`` or ``measure_flash``, or ``known_difference``. badness: how bad a value is;
    from 1 on it is reported. says: words for the worst value.
    """

    measure: str
    badness: Callable[[float], float]
    says: Callable[[float], str]
    remedy: str


def percent(value: float) -> str:
    return f"{100 * abs(value):.0f} %"


COMPLAINTS = (
    Complaint(
        "known_difference",
        lambda value: value / KNOWN_DIFFERENCE,
        lambda value: (
            f"the clip does not begin with the frames it was given (they differ by {percent(value)})"
        ),
        "Connect frames of Window Start to the start image of your graph, and let it return the whole clip.",
    ),
    Complaint(
        "flash_brightness",
        lambda value: abs(value) / 0.03,
        lambda value: (
            f"the first new frames are {percent(value)} {'brighter' if value > 0 else 'darker'} (a flash)"
        ),
        "Set flash_limit to 3, or drop_new to the frames that the model needs to settle.",
    ),
    Complaint(
        "flash_contrast",
        lambda value: -value / 0.2,
        lambda value: f"the first new frames lose {percent(value)} of their contrast (they go gray)",
        "Set drop_new to the frames that the model needs to settle, or blend with known_frames above 1.",
    ),
    Complaint(
        "flash_sharpness",
        lambda value: -value / 0.3,
        lambda value: f"the first new frames lose {percent(value)} of their sharpness",
        "Set drop_new to the frames that the model needs to settle.",
    ),
    Complaint(
        "seam_motion",
        lambda value: 0.25 / max(value, 1e-9),
        lambda value: f"a frame is doubled at the seam (it moves {value:.1f} times as much as beside it)",
        "Set drop_new to 1, or known_frames to what your graph repeats.",
    ),
    Complaint(
        "seam_pace",
        lambda value: max(value, 1 / max(value, 1e-9)) / 3,
        lambda value: (
            f"the motion {'starts' if value > 1 else 'stops'} at the seam ({value:.1f} times as fast as before)"
        ),
        "Set known_frames to 5 or more if the model takes several, or seam_limit to 2.",
    ),
    Complaint(
        "returned",
        lambda value: value / 0.5,
        lambda value: f"the clip goes back towards the start picture ({percent(value)} of the way)",
        "Give the window a prompt that says where it goes, another seed, or more known_frames.",
    ),
)


def complaints(facts: Sequence[dict]) -> list[str]:
    """Return a sentence for every complaint that applies to some windows.

    Args:
        facts: those of the finished windows (see ``window_facts``).
    """
    lines = []
    for complaint in COMPLAINTS:
        values = {number: window["measures"].get(complaint.measure) for number, window in enumerate(facts, 1)}
        bad = {n: value for n, value in values.items() if value is not None and complaint.badness(value) >= 1}
        if bad:
            worst = max(bad.values(), key=complaint.badness)
            lines.append(f"{name_windows(list(bad))}: {complaint.says(worst)}. {complaint.remedy}")
    return lines


def name_windows(numbers: list[int]) -> str:
    """Return windows as words: "Window 2", "Windows 2, 3 and 9 more"."""
    more = len(numbers) - MOST_NAMED
    listed = ", ".join(map(str, numbers[:MOST_NAMED])) + (f" and {more} more" if more > 0 else "")
    return f"Window{'s' * (len(numbers) > 1)} {listed}"

"""Report how good a clip is in words, as a table and as JSON, alone or compared with another one."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean

from .catalog import MEASURES, TABLE_1, Measure

MOST_NAMED = 3
"""A sentence names at most so many things."""


@dataclass
class Judgment:
    """What was measured of one clip.

    values: by their names in the catalog. curves: over time. moments: the second at which a value occurs. missing: why
    a measure was not taken. notes: what the artist should know about the frames.
    """

    frames: int
    width: int
    height: int
    fps: float
    values: dict[str, float] = field(default_factory=dict)
    curves: dict[str, list[float]] = field(default_factory=dict)
    moments: dict[str, float] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def to_json(self, *, curves: bool = True) -> dict:
        """Return what JSON can hold, with or without the curves; values that are not finite are left out."""
        document = asdict(self)
        document["values"] = {name: round(v, 6) for name, v in self.values.items() if math.isfinite(v)}
        document["curves"] = {
            name: [round(v, 5) for v in curve] for name, curve in self.curves.items() if curves
        }
        document["table_1_mean"] = table_1_mean(self.values)
        return document


def table_1_mean(values: Mapping[str, float]) -> float | None:
    """Return the mean of the paper's seven measures, None where one is missing."""
    return fmean(values[name] for name in TABLE_1) if values.keys() >= set(TABLE_1) else None


def report_text(clip: Judgment, other: Judgment | None = None) -> str:
    """Return the table that the node shows: what stands out, a row a measure, and what is missing."""
    clips = [clip] if other is None else [clip, other]
    lines = [standout(clip, other), ""]
    for letter, each in zip("AB", clips, strict=False):
        name = "" if other is None else f"{letter}: "
        lines.append(
            f"{name}{each.frames} frames, {each.width} x {each.height}, {each.fps:g} frames a second, "
            f"{each.frames / each.fps:.1f} s"
        )
        lines += [f"{name}{note}" for note in each.notes]
    lines += ["", *_rows(clips)]
    reasons: dict[str, dict[str, None]] = {}
    for each in clips:
        for name, why in each.missing.items():
            reasons.setdefault(why, {})[MEASURES[name].title] = None
    lines += ["", *(f"Not measured: {', '.join(titles)}. {why}" for why, titles in reasons.items())]
    return "\n".join(lines).rstrip()


def _rows(clips: Sequence[Judgment]) -> list[str]:
    arrows = {1: "higher is better", -1: "lower is better", 0: ""}
    rows = []
    for name, measure in MEASURES.items():
        about = "; ".join(filter(None, (measure.about, arrows[measure.better])))
        rows.append(_row(measure.title, [each.values.get(name) for each in clips], about))
    means = [table_1_mean(each.values) for each in clips]
    rows.append(_row("mean of the first seven", means, "as in the paper's Table 1; higher is better"))
    return [row for row in rows if row]


def _row(title: str, values: Sequence[float | None], about: str) -> str:
    """Return a line of the table, empty where no clip has a value."""
    if all(value is None for value in values):
        return ""
    cells = "  ".join(f"{'-' if value is None else f'{value:.4f}':>9}" for value in values)
    return f"{title:<24}{cells}  {about}"


def standout(clip: Judgment, other: Judgment | None = None) -> str:
    """Return a sentence about what stands out: faults of one clip, or how two differ."""
    if other is not None:
        return _comparison(clip, other)
    faults = [text for _, text in sorted(_faults(clip), reverse=True)][:MOST_NAMED]
    if not faults:
        return "Nothing stands out: no jumps, no standstill, colors and sharpness hold."
    return f"What stands out: {'; '.join(faults)}."


def _faults(clip: Judgment) -> list[tuple[float, str]]:
    """Return the faults that a viewer would see: (size relative to the smallest visible one, text)."""
    get, at = clip.values.get, clip.moments.get
    length_s = clip.frames / clip.fps
    still, jump, kept = get("still_s", 0.0), get("worst_jump", 1.0), get("sharpness_kept", 1.0)
    if clip.frames > 1 and still >= length_s - 1.5 / clip.fps:
        return [(math.inf, "nothing moves at all")]
    faults = [
        (still / 0.2, f"nothing moves for {still:.1f} s from {at('still_s', 0):.1f} s on"),
        (jump / 3, f"a jump at {at('worst_jump', 0):.1f} s, {jump:.1f} times the change around it"),
        (0.75 / max(kept, 1e-3), f"sharpness falls to {100 * kept:.0f} % towards the end"),
        (get("color_drift", 0.0) / 3, f"colors move {get('color_drift', 0):.1f} delta E away from the beginning"),
        (25 / max(get("start_psnr", 99.0), 1), "the first frame is not the start picture"),
        (0.7 / max(get("subject_consistency", 1.0), 0.1), "the subject does not stay itself"),
        (20 / max(get("prompt_fit", 99.0), 1), "the frames fit the prompt badly"),
    ]  # fmt: skip
    return [(size, text) for size, text in faults if size > 1]


def _comparison(a: Judgment, b: Judgment) -> str:
    both = [name for name in MEASURES if MEASURES[name].better and name in a.values and name in b.values]
    texts = {name: f"{MEASURES[name].title} ({a.values[name]:.3g} to {b.values[name]:.3g})" for name in both}
    # how many notable differences A is better by; negative where B is better
    sizes = {
        name: MEASURES[name].better * (a.values[name] - b.values[name]) / MEASURES[name].notable
        for name in both
    }
    parts = []
    for letter, sign in (("A", 1), ("B", -1)):
        leads = sorted((name for name in both if sign * sizes[name] >= 1), key=lambda name: -abs(sizes[name]))
        if leads:
            parts.append(f"{letter} is better in {', '.join(texts[name] for name in leads[:MOST_NAMED])}")
    return ("; ".join(parts) or "A and B differ in nothing that a viewer would notice") + "."


def report_json(clip: Judgment, other: Judgment | None = None) -> str:
    """Return both judgments and the sentence as JSON."""
    document = {"summary": standout(clip, other), "a": clip.to_json()}
    return json.dumps(document if other is None else document | {"b": other.to_json()}, indent=1)


def radar(clips: Sequence[Judgment]) -> dict[str, list[float | None]]:
    """Return how good each clip is by each measure that any has, 0 (center) to 1 (rim), by the measure's title."""
    spokes = {}
    for name, measure in MEASURES.items():
        values = [each.values.get(name) for each in clips]
        if measure.better and name != "sharpness" and any(value is not None for value in values):
            spokes[measure.title] = [None if value is None else _share(measure, value) for value in values]
    return spokes


def _share(measure: Measure, value: float) -> float:
    return min(max((value - measure.worst) / (measure.best - measure.worst), 0.0), 1.0)

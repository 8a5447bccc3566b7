"""The table over folders of videos: the paper's Table 1, every other measure, FID and FVD."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from ..store.files import read_json_lines
from .catalog import MEASURES, REMEDIES_IN_FOLDER, TABLE_1
from .report import table_1_mean

FEW_CLIPS = 200
"""A Fréchet distance of fewer clips says little."""
MOST_SHOWN = 5


@dataclass
class FolderResult:
    """What was measured of a folder.

    rows: one per video, as on disk. distances: FID and FVD, each with the half width of its interval. notes: why one of
    them is missing.
    """

    name: str
    rows: list[dict]
    distances: dict[str, dict[str, float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def means(self) -> dict[str, float]:
        """Return the mean of every measure over the videos that have it."""
        values = {
            name: [row["values"][name] for row in self.rows if name in row["values"]] for name in MEASURES
        }
        return {name: fmean(each) for name, each in values.items() if each}


def read_rows(path: Path) -> list[dict]:
    """Return the rows of an earlier run."""
    rows = read_json_lines(path)
    return [row for row in rows if isinstance(row.get("key"), str) and _are_numbers(row.get("values"))]


def _are_numbers(values: object) -> bool:
    return isinstance(values, dict) and all(
        type(value) in (int, float) and math.isfinite(value) for value in values.values()
    )


def folder_text(results: Sequence[FolderResult]) -> str:
    """Return the table as Markdown; below it, what could not be measured and why."""
    means = [result.means() for result in results]
    others = [name for name in MEASURES if name not in TABLE_1 and any(name in mean for mean in means)]
    distances = [name for name in ("FID", "FVD") if any(name in result.distances for result in results)]
    columns = [MEASURES[name].title for name in (*TABLE_1, *others)] + distances
    columns.insert(len(TABLE_1), "mean")
    lines = [f"| | clips | {' | '.join(columns)} |", "|---" * (len(columns) + 2) + "|"]
    for result, mean in zip(results, means, strict=True):
        values = [mean.get(name) for name in (*TABLE_1, *others)]
        values.insert(len(TABLE_1), table_1_mean(mean))
        count = sum(not row.get("error") for row in result.rows)
        cells = [result.name, str(count), *("-" if v is None else f"{v:.4f}" for v in values)]
        cells += [_distance(result.distances.get(name)) for name in distances]
        lines.append("| " + " | ".join(cells) + " |")
    notes = dict.fromkeys(note for result in results for note in (*result.notes, *_warnings(result)))
    return "\n".join([*lines, "", *notes, *_not_measured(results)])


def _distance(measured: dict[str, float] | None) -> str:
    return "-" if measured is None else f"{measured['value']:.2f} ± {measured['plus_minus']:.2f}"


def _warnings(result: FolderResult) -> list[str]:
    """Return warnings about a folder: few clips for a distance, videos that could not be read."""
    notes = []
    if result.distances and len(result.rows) < FEW_CLIPS:
        notes.append(
            f"{result.name}: {len(result.rows)} clips are few. FID and FVD of fewer than {FEW_CLIPS} are too large and "
            "uncertain; compare only sets of the same size."
        )
    broken = [row for row in result.rows if row.get("error")]
    notes += [f"{result.name}: {row['error']}" for row in broken[:MOST_SHOWN]]
    if len(broken) > MOST_SHOWN:
        notes.append(f"{result.name}: {len(broken) - MOST_SHOWN} more videos could not be measured.")
    return notes


def _not_measured(results: Sequence[FolderResult]) -> list[str]:
    """Return a line for every reason why measures were not taken, with the folders unless it holds for all."""
    lines: dict[str, list[str]] = {}
    for result in results:
        for (where, why), titles in _missing(result).items():
            lines.setdefault(f"Not measured{where}: {', '.join(titles)}. {why}", []).append(result.name)
    return [
        line if len(names) == len(results) else f"{', '.join(names)}: {line}" for line, names in lines.items()
    ]


def _missing(result: FolderResult) -> dict[tuple[str, str], list[str]]:
    """Return the titles of measures that some videos lack, keyed by how many lack them and why."""
    measured = [row for row in result.rows if not row.get("error")]
    grouped: dict[tuple[str, str], list[str]] = {}
    for name, measure in MEASURES.items():
        reasons = Counter(_reason(row, name) for row in measured)
        for why, count in reasons.items():
            if why:
                where = "" if count == len(measured) else f" in {count} of {len(measured)} clips"
                grouped.setdefault((where, REMEDIES_IN_FOLDER.get(why, why)), []).append(measure.title)
    return grouped


def _reason(row: dict, name: str) -> str:
    missing = row.get("missing")
    return str(missing.get(name, "")) if isinstance(missing, dict) else ""

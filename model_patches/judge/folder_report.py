"""The table over folders of videos: the paper's Table 1, every other measure, FID and FVD."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .catalog import MEASURES, TABLE_1
from .report import table_1_mean

FEW_CLIPS = 200
"""Below this many clips a Fréchet distance says little."""
MOST_SHOWN = 5


@dataclass
class FolderResult:
    """What was found out about a folder.

    rows: of its videos, as they are on disk. distances: FID and FVD, with the half width of their intervals. notes:
    why one of them is missing.
    """

    name: str
    rows: list[dict]
    distances: dict[str, dict[str, float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def means(self) -> dict[str, float]:
        """Return the mean of every measure over the videos that have it."""
        found = {
            name: [row["values"][name] for row in self.rows if name in row["values"]] for name in MEASURES
        }
        return {name: sum(values) / len(values) for name, values in found.items() if values}


def read_rows(path: Path) -> list[dict]:
    """Return the rows of an earlier run; a line that is none, as a killed run leaves it, is skipped."""
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict) and isinstance(row.get("key"), str) and _are_numbers(row.get("values")):
            rows.append(row)
    return rows


def _are_numbers(values: object) -> bool:
    return isinstance(values, dict) and all(
        type(value) in (int, float) and math.isfinite(value) for value in values.values()
    )


def folder_text(results: Sequence[FolderResult]) -> str:
    """Return the table as Markdown, with what is missing and what went wrong below it."""
    means = [result.means() for result in results]
    others = [name for name in MEASURES if name not in TABLE_1 and any(name in mean for mean in means)]
    distances = [name for name in ("FID", "FVD") if any(name in result.distances for result in results)]
    columns = [MEASURES[name].title for name in (*TABLE_1, *others)] + distances
    columns.insert(len(TABLE_1), "mean")
    lines = [f"| | clips | {' | '.join(columns)} |", "|---" * (len(columns) + 2) + "|"]
    for result, mean in zip(results, means, strict=True):
        values = [mean.get(name) for name in (*TABLE_1, *others)]
        values.insert(len(TABLE_1), table_1_mean(mean))
        cells = [result.name, str(len(result.rows)), *("-" if v is None else f"{v:.4f}" for v in values)]
        cells += [_distance(result.distances.get(name)) for name in distances]
        lines.append("| " + " | ".join(cells) + " |")
    notes = dict.fromkeys(note for result in results for note in (*result.notes, *_trouble(result)))
    return "\n".join([*lines, "", *notes])


def _distance(found: dict[str, float] | None) -> str:
    return "-" if found is None else f"{found['value']:.2f} ± {found['plus_minus']:.2f}"


def _trouble(result: FolderResult) -> list[str]:
    """Return what to know of a folder: few clips for a distance, videos that could not be read, missing models."""
    notes = []
    if result.distances and len(result.rows) < FEW_CLIPS:
        notes.append(
            f"{result.name}: {len(result.rows)} clips are few. FID and FVD of less than {FEW_CLIPS} are too large and "
            "uncertain; compare only sets of the same size."
        )
    broken = [row for row in result.rows if row.get("error")]
    notes += [f"{result.name}: {row['key'].split(' | ')[0]}: {row['error']}" for row in broken[:MOST_SHOWN]]
    missing = {
        why for row in result.rows if isinstance(row.get("missing"), dict) for why in row["missing"].values()
    }
    return notes + sorted(f"{why}" for why in missing if isinstance(why, str))

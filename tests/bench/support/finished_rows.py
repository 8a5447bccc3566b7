"""Keep what a long benchmark has measured so far, so that a run that was cut goes on."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path

Figures = dict[str, float]


class FinishedRows:
    """Rows of figures in a file.

    Args:
        path: the file.
        sources: files that the figures follow from; if any changes, nothing is taken over.
    """

    def __init__(self, path: Path, sources: Iterable[Path]) -> None:
        self.path, self.rows = path, {}
        self.made_by = _digest(sources)
        if path.exists():
            kept = json.loads(path.read_text(encoding="utf-8"))
            self.rows: dict[str, Figures] = kept["rows"] if kept["made_by"] == self.made_by else {}

    def get(self, name: str, measure: Callable[[], Figures]) -> Figures:
        """Return a row, measured now if it is not there."""
        if name in self.rows:
            print(f"{name}: taken from {self.path}; delete it to measure again", flush=True)
            return self.rows[name]
        print(f"{name}: measuring", flush=True)
        self.rows[name] = measure()
        part = self.path.with_name(f"{self.path.name}.part")
        part.write_text(json.dumps({"made_by": self.made_by, "rows": self.rows}, indent=1), encoding="utf-8")
        os.replace(part, self.path)
        return self.rows[name]


def _digest(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()

"""Keep what a long benchmark has measured so far, so that a run that was cut goes on.

A row is taken over only while everything that it follows from is the same: every source file of ours behind the
benchmark, the weights, and the versions of the libraries that compute. Speed and memory follow from the machine and
the moment, so they must never be rows.
"""

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from magic141.tools.host import comfyui_path
from magic141.tools.imports import ROOT, files_behind

Figures = dict[str, float]
MODELS = ROOT / "embedded" / "models"
LIBRARIES = ("torch", "transformers", "numpy")


def sources_of(bench: Path, *, without: str = "") -> list[Path]:
    """Return every file that a benchmark's figures follow from: our code, the embedded models, ComfyUI's version.

    Args:
        bench: the benchmark's own file.
        without: a folder of the models that rows name by themselves.
    """
    models = [
        path
        for path in sorted(MODELS.rglob("*"))
        if path.is_file() and path.suffix != ".md" and path.relative_to(MODELS).parts[0] != without
    ]
    return [*files_behind(bench), *models, comfyui_path() / "comfyui_version.py"]


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
    versions = [f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES]
    digest = hashlib.sha256("\n".join(versions).encode())
    for file in files:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()

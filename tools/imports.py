"""List what our files import, from their source alone; nothing is run."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "magic141"


def imports_of(path: Path) -> list[tuple[str, ...]]:
    """Return what a file imports, also inside functions.

    Args:
        path: a Python file of this repository.

    Returns:
        A module or name of ours as its path from the root, ``("tools", "demo", "run_demo")``; anything else as
        ``("", top-level name)``.
    """
    here = path.relative_to(ROOT).with_suffix("").parts
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [_absolute(alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = (*here[: len(here) - node.level], *(node.module or "").split("."))
            base = tuple(part for part in base if part)
            found += [(*base, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [_absolute(f"{node.module}.{alias.name}") for alias in node.names]
    return found


def files_behind(path: Path) -> list[Path]:
    """Return a file of ours and every file of ours that it imports, directly or through others, sorted."""
    found: set[Path] = set()
    waiting = [path.resolve()]
    while waiting:
        file = waiting.pop()
        if file in found:
            continue
        found.add(file)
        waiting += [needed for parts in imports_of(file) if parts[0] for needed in _files_of(parts)]
    return sorted(found)


def _files_of(parts: tuple[str, ...]) -> list[Path]:
    """Return the files that importing this runs: the module, and the packages that hold it."""
    files = []
    for length in range(1, len(parts) + 1):
        place = ROOT.joinpath(*parts[:length])
        files += [file for file in (place / "__init__.py", place.with_suffix(".py")) if file.is_file()]
    return files


def _absolute(name: str) -> tuple[str, ...]:
    top, _, rest = name.partition(".")
    return tuple(rest.split(".")) if top == PACKAGE else ("", top)

"""Every name of ComfyUI that the pack uses, in one table with the versions that have it.

Run as ``python3 dev.py remake host_names``, once for each ComfyUI (``COMFYUI_PATH``): it lists the names that ``nodes``
and ``bridge`` use now, and adds this host's version to each name that it has. ``members`` is written by hand: members
of the host's objects, which no import shows.
"""

import ast
import importlib
import inspect
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from .host import use_comfyui

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "tools" / "host_names.json"
ROOMS = ("nodes", "model_patches/bridge")
HOST_MODULES = (
    "app", "comfy", "comfy_api", "comfy_execution", "comfy_extras", "comfyui_version", "execution", "folder_paths",
    "latent_preview", "node_helpers", "server",
)  # fmt: skip


def names_used() -> dict[str, str]:
    """Return every name of the host that is reached from an import in the pack, and the first place that uses it."""
    found: dict[str, str] = {}
    for file in sorted(path for room in ROOMS for path in ROOT.joinpath(room).rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for name, line in _names_of(tree):
            found.setdefault(name, f"{file.relative_to(ROOT).as_posix()}:{line}")
    return dict(sorted(found.items()))


def _names_of(tree: ast.Module) -> Iterator[tuple[str, int]]:
    imports = list(_imports(tree))
    bound = {local: meaning for local, meaning, *_ in imports}
    yield from ((name, line) for *_, name, line in imports)
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and id(node) not in inner:
            first, *rest = _chain(node)
            if first in bound:
                yield ".".join([bound[first], *rest]), node.lineno


def _imports(tree: ast.Module) -> Iterator[tuple[str, str, str, int]]:
    """Yield (local name, full name behind it, imported name, line) of every import of the host."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Import | ast.ImportFrom) or getattr(node, "level", 0):
            continue
        for alias in node.names:
            name = alias.name if isinstance(node, ast.Import) else f"{node.module}.{alias.name}"
            top = name.partition(".")[0]
            if top in HOST_MODULES:
                is_top = isinstance(node, ast.Import) and not alias.asname  # "import a.b" binds a
                local, meaning = (top, top) if is_top else (alias.asname or alias.name, name)
                yield local, meaning, name, node.lineno


def _chain(node: ast.expr) -> list[str]:
    """Return ``["a", "b", "c"]`` for ``a.b.c``; what follows a call or an index is part of no name."""
    if isinstance(node, ast.Attribute):
        before = _chain(node.value)
        return [*before, node.attr] if before[0] else before
    return [node.id] if isinstance(node, ast.Name) else [""]


def host_has(name: str) -> bool:
    """Say whether the ComfyUI on ``sys.path`` has a name.

    Args:
        name: of a module, of something in it, or of an attribute of its classes' objects: ``comfy.sd.VAE.decode``. An
            attribute that a module sets on other modules' objects counts as its own: ``comfy.ops.quant_format``.
    """
    module, rest = _module_of(name)
    value: object = module
    for part in rest:
        if hasattr(value, part):
            value = getattr(value, part)
            continue
        kinds = value.__mro__[:-1] if inspect.isclass(value) else [value]
        return value is None or any(_sets(kind, part) for kind in kinds)  # None: set only by a running server
    return module is not None


def _module_of(name: str) -> tuple[ModuleType | None, list[str]]:
    """Return the deepest module of a dotted name, and the rest of the name."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            return importlib.import_module(".".join(parts[:length])), parts[length:]
        except ModuleNotFoundError as error:
            if not (error.name and ".".join(parts[:length]).startswith(error.name)):
                raise
    return None, []


def _sets(holder: object, attribute: str) -> bool:
    """Say whether a class has a field of this name, or the source of a class or module sets such an attribute."""
    if not (inspect.isclass(holder) or inspect.ismodule(holder)):
        return False
    if attribute in getattr(holder, "__annotations__", {}):
        return True
    try:
        source = inspect.getsource(holder)
    except (OSError, TypeError):  # built in
        return False
    return bool(re.search(rf"\b\w+\.{attribute}\b *(:[^=\n]+)?=[^=]", source))


def read_table() -> dict:
    return json.loads(TABLE.read_text(encoding="utf-8"))


def all_names(table: dict) -> dict[str, list[str]]:
    """Return the versions by name, of names reached from imports and of members of objects."""
    return {name: seen.split() for name, seen in (table["names"] | table["members"]).items()}


def names_gone(table: dict) -> list[str]:
    """Return one line for each name of the table that this ComfyUI no longer has."""
    places, version = names_used(), host_version()
    return [
        f"ComfyUI {version} has no {name} (last seen in {max(seen, key=as_numbers, default='no version')}), "
        f"which {places.get(name, 'the pack')} uses."
        for name, seen in all_names(table).items()
        if not host_has(name)
    ]


def as_numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)))


def host_version() -> str:
    return importlib.import_module("comfyui_version").__version__


def remade(table: dict) -> dict:
    """Return the table of the names that the pack uses now, with this host's version beside each name that it has."""
    version, known = host_version(), all_names(table)

    def seen(name: str) -> str:
        before = set(known.get(name, [])) - {version}
        return " ".join(sorted(before | ({version} if host_has(name) else set()), key=as_numbers))

    return {
        "hosts": sorted({*table["hosts"], version}, key=as_numbers),
        "names": {name: seen(name) for name in names_used()},
        "members": {name: seen(name) for name in sorted(table["members"])},
    }


def main() -> None:
    use_comfyui()
    table = remade(read_table())
    TABLE.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    print(f"{TABLE.relative_to(ROOT)}: {len(all_names(table))} names, ComfyUI {', '.join(table['hosts'])}")
    if gone := names_gone(table):
        sys.exit("\n".join(gone))


if __name__ == "__main__":
    main()

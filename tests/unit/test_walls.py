"""Imports run one way: nodes, bridge, subjects, store. Every arrow that may exist is named here; no other may."""

from pathlib import Path

import pytest
from magic141.tools.imports import imports_of

ROOT = Path(__file__).resolve().parents[2]
GROUND = {"store", "sizes", "sampler", "plots", "measures"}
"""What every subject may stand on. ``plots`` stands on ``store``; ``sizes``, ``sampler``, ``measures`` on nothing."""
SUBJECTS = {
    "dit": set(),
    "encoders": {"dit"},
    "window": set(),
    "judge": {"encoders"},
    "int8": {"dit"},
    "retrieval": {"encoders"},  # a CLIP is a Hugging Face folder as well, and is checked as one
    "training": {"dit", "encoders"},
}
BRIDGE_SUBJECTS = {"encoders": set(), "window": {"encoders"}, "int8": {"encoders"}, "retrieval": {"encoders"}}
BRIDGE_SUBJECTS |= {"training": {"encoders"}, "judge": {"encoders", "window"}}
HOST = {
    "app", "comfy", "comfy_api", "comfy_config", "comfy_execution", "comfy_extras", "comfy_kitchen", "execution",
    "folder_paths", "latent_preview", "node_helpers", "protocol", "server",
}  # fmt: skip
NOT_PRODUCT = {"lab", "tests", "tools", "dev"}
FILES = [path for top in ("nodes", "model_patches", "lab", "tools") for path in (ROOT / top).rglob("*.py")]


def room(parts: tuple[str, ...]) -> str:
    """Name the room of a module: a subject, ``bridge``, ``bridge/subject``, or the top folder."""
    if parts[0] != "model_patches" or len(parts) < 2:
        return parts[0]
    if parts[1] == "bridge" and len(parts) > 2 and parts[2] in BRIDGE_SUBJECTS:
        return f"bridge/{parts[2]}"
    return parts[1]


def may_import(source: str) -> set[str]:
    subjects = set(SUBJECTS)
    if source == "nodes":
        return {"nodes", "bridge", *(f"bridge/{name}" for name in BRIDGE_SUBJECTS)} | subjects | GROUND
    if source == "bridge":
        return {"bridge"} | subjects | GROUND
    if source.startswith("bridge/"):
        others = {f"bridge/{name}" for name in BRIDGE_SUBJECTS[source.removeprefix("bridge/")]}
        return {source, "bridge"} | others | subjects | GROUND
    if source in SUBJECTS:
        return {source} | SUBJECTS[source] | GROUND
    return {"store": {"store", "sizes"}, "plots": {"plots", "store"}}.get(source, set())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_import_runs_up(path):
    source = room(
        path.relative_to(ROOT).parts
        if path.parent != ROOT / "model_patches"
        else ("model_patches", path.stem)
    )
    ours = {room(parts) for parts in imports_of(path) if parts[0]}
    hosts = {name for top, name, *_ in (p for p in imports_of(path) if not p[0]) if name in HOST}
    if source in ("lab", "tools"):
        assert source == "lab" or "lab" not in ours, "tools must not need the lab"
        assert source == "tools" or not hosts, "the lab must run without the host"
        return
    assert not ours - may_import(source), f"{source} must not import {sorted(ours - may_import(source))}"
    assert not hosts or source == "nodes" or source.startswith("bridge"), (
        f"{source} must not import the host: {hosts}"
    )

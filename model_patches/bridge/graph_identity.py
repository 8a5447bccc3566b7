"""Hash the graph that feeds a node, to find out whether anything in it has changed.

The identity of a link is a hash of the node it comes from: its class, its widget values, the files those name, and the
same of everything before it. Ids, titles and positions are left out. What cannot be known is never the same twice.
"""

import contextlib
import importlib
import inspect
import json
import math
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import folder_paths
from comfy_api.internal import _ComfyNodeInternal, first_real_override
from comfy_execution.graph_utils import is_link

from ..store.files import file_sha256
from ..window.entries import digest

HASHED_BYTES = 16 * 1024**2
"""Files up to this size are identified by their content, larger ones by size and time."""
HASHED_BYTES_IN_FOLDERS = 2**16
MAX_FILES = 10_000
"""In a folder that a widget names; a folder with more files counts as unknown."""
LONGEST_NAME = 1024


Graph = Mapping[str, dict]
"""Node id -> {"class_type", "inputs"}, as the host runs it."""


def running_graph(dynprompt) -> Graph:
    """Return the graph of the host's ``DynamicPrompt``, including expanded nodes."""
    return {node_id: dynprompt.get_node(node_id) for node_id in dynprompt.all_node_ids()}


@dataclass(frozen=True)
class GraphIdentity:
    """The hash of what feeds a node, and the classes of nodes before it whose result may differ every time."""

    hash: str
    unknown: tuple[str, ...] = ()


class _Unknown(Exception):
    """Something about a node that cannot be known."""


def graph_identity(graph: Graph, node_id: str, inputs: Sequence[str]) -> GraphIdentity:
    """Return the identity of what is connected to some inputs of a node.

    Args:
        graph: the prompt as it runs.
        node_id: the node whose inputs are looked at.
        inputs: their names.
    """
    reader = _GraphReader(graph)
    values = graph[node_id]["inputs"]
    connected = {name: reader.value_of(values[name]) for name in sorted(inputs) if name in values}
    return GraphIdentity(digest(connected), tuple(sorted(reader.unknown)))


class _GraphReader:
    """Reads every node once, however many links leave it."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.unknown: set[str] = set()
        self._read: dict[str, str] = {}

    def value_of(self, value: object) -> object:
        """Return what an input holds, as a JSON value."""
        if isinstance(value, list) and is_link(value):
            node_id, slot = value
            return ["from", self.hash_of(node_id), slot]
        json_value = plain_value(value)
        files = [facts for text in _texts(json_value) for facts in named_files(text)]
        return ["is", json_value, files] if files else ["is", json_value]

    def hash_of(self, node_id: str) -> str:
        """Return the hash of a node and all before it, or a new random one if that cannot be known."""
        if node_id not in self._read:
            node = self.graph.get(node_id, {})
            class_type = str(node.get("class_type"))
            try:
                self._read[node_id] = self._hash(class_type, node)
            except (_Unknown, OSError, ValueError):
                self.unknown.add(class_type)
                self._read[node_id] = uuid.uuid4().hex
        return self._read[node_id]

    def _hash(self, class_type: str, node: dict) -> str:
        cls = node_class(class_type)
        if cls is None or getattr(cls, "NOT_IDEMPOTENT", False):
            raise _Unknown
        inputs = {name: self.value_of(value) for name, value in sorted(node["inputs"].items())}
        return digest([class_type, inputs, plain_value(changed_value(cls, node))])


def node_class(class_type: str) -> type | None:
    """Return a node's class, or None where it is not installed."""
    return importlib.import_module("nodes").NODE_CLASS_MAPPINGS.get(class_type)


def changed_value(cls: type, node: dict) -> object:
    """Return what a node's class says about outside changes; the host has asked already, unless it keeps no cache.

    Raises:
        _Unknown: it says that it always changes, or cannot be asked.
    """
    if "is_changed" in node:
        return node["is_changed"]
    if issubclass(cls, _ComfyNodeInternal):
        is_changed = first_real_override(cls, "fingerprint_inputs")
    else:
        is_changed = getattr(cls, "IS_CHANGED", None)
        is_changed = is_changed if is_changed is None or inspect.ismethod(is_changed) else cls().IS_CHANGED
    if is_changed is None:
        return None
    try:
        changed = is_changed(
            **{name: None if is_link(value) else value for name, value in node["inputs"].items()}
        )
    except Exception as error:
        raise _Unknown from error
    if inspect.iscoroutine(changed):
        changed.close()
        raise _Unknown
    return [changed]


def plain_value(value: object) -> object:
    """Return a value as JSON, with 1.0 as 1.

    Raises:
        _Unknown: it cannot be JSON, or is a float that is not finite.
    """
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _Unknown
        return int(value) if value.is_integer() else value
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return {str(name): plain_value(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain_value(part) for part in value]
    raise _Unknown


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)


def named_files(text: str) -> list:
    """Return facts about every file and model folder that a widget's text may name; empty if it names none."""
    parts = set(text.replace("\\", "/").split("/"))
    if not text.strip() or len(text) > LONGEST_NAME or not text.isprintable() or parts & {".", ".."}:
        return []
    paths = {os.path.realpath(path) for path in _places(text) if os.path.exists(path)}
    return [facts for path in sorted(paths) for facts in file_facts(Path(path))]


def _places(text: str) -> Iterator[str]:
    """Yield where the host and this pack look for a name."""
    if os.path.isabs(text):
        yield text
        return
    for paths, _ in folder_paths.folder_names_and_paths.values():
        yield from (os.path.join(path, text) for path in paths)
    yield os.path.join(folder_paths.models_dir, text)
    yield os.path.join(folder_paths.models_dir, "LLM", text)  # no category of the host
    with contextlib.suppress(ValueError):  # it leads out of the input folder
        file = folder_paths.get_annotated_filepath(text)
        if os.path.isfile(file):
            yield file


def file_facts(path: Path) -> list:
    """Return what identifies a file, or the files of a folder, wherever they lie."""
    if not path.is_dir():
        return [_facts(path, HASHED_BYTES)] if path.is_file() else []
    files: list[Path] = []
    for folder, _, names in os.walk(path):
        files += [Path(folder) / name for name in names]
        if len(files) > MAX_FILES:
            raise _Unknown
    return [
        [file.relative_to(path).as_posix(), *_facts(file, HASHED_BYTES_IN_FOLDERS)]
        for file in sorted(files)
        if file.is_file()
    ]


def _facts(file: Path, hashed_bytes: int) -> list:
    status = file.stat()
    if status.st_size <= hashed_bytes:
        return [status.st_size, file_sha256(file)]
    return [status.st_size, status.st_mtime_ns]


def describe_unknown(identity: GraphIdentity) -> list[str]:
    """Return why a later run cannot continue this one; empty if it can."""
    if not identity.unknown:
        return []
    names = ", ".join(json.dumps(name) for name in identity.unknown)
    return [
        f"{names} may give something else each time, so this starts anew and cannot be continued. Connect "
        "nodes whose results depend on their inputs alone."
    ]

"""A model in several safetensors files with an index, read as one."""

import re
from dataclasses import replace
from pathlib import Path

from ..store.files import is_relative_name, read_json
from .weights_file import Header, TensorInfo, read_header

#: The name of one part: base, number, count and ending.
PART = re.compile(r"^(?P<base>.+)-(?P<number>\d+)-of-(?P<count>\d+)(?P<ending>\.\w+)$")
INDEX = ".index.json"


def read_model_header(path: str | Path) -> Header:
    """Read the header of a weights file, or of all parts of the model that it is a part of.

    Args:
        path: a weights file, one part of a sharded model, or its index (``.safetensors.index.json``).
    Returns:
        The header; of a sharded model ``parts`` holds the headers of its files.
    Raises:
        FileNotFoundError: a part is missing; the message names it.
        ValueError: damaged, or two parts hold one weight.
    """
    path = Path(path)
    part = PART.match(path.name)
    if not path.name.endswith(INDEX) and (part is None or int(part["count"]) == 1):
        return read_header(path)
    base = path.name.removesuffix(INDEX) if part is None else part["base"] + part["ending"]
    return _join(path.with_name(base), [read_header(file) for file in _part_files(path, base, part)])


def _part_files(path: Path, base: str, part: re.Match | None) -> list[Path]:
    index = path.with_name(base + INDEX)
    if index.is_file():
        names = indexed_names(index)
    elif part is None:
        raise FileNotFoundError(f"{index.name} does not exist.")
    else:
        digits, count = len(part["number"]), part["count"]
        names = [
            f"{part['base']}-{number:0{digits}d}-of-{count}{part['ending']}"
            for number in range(1, int(count) + 1)
        ]
    if missing := [name for name in names if not path.with_name(name).is_file()]:
        raise FileNotFoundError(
            f"{base} comes in {len(names)} parts. Missing: {', '.join(missing)}. Download all into one folder."
        )
    return [path.with_name(name) for name in names]


def indexed_names(index: Path) -> list[str]:
    """Return the files that an index names, sorted.

    Raises:
        ValueError: it is damaged, or a name is not that of a file in its folder.
    """
    try:
        names = sorted(set(read_json(index)["weight_map"].values()))
        if not names or not all(is_relative_name(name) and "/" not in name for name in names):
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(
            f"{index.parent.name}/{index.name} is no index of a sharded model: its weight_map must "
            "name files of the same folder. Download it again."
        ) from None
    return names


def _join(path: Path, parts: list[Header]) -> Header:
    tensors: dict[str, TensorInfo] = {}
    metadata: dict[str, str] = {}
    for part in parts:
        if twice := next((key for key in part.tensors if key in tensors), None):
            raise ValueError(
                f"{path.name} holds {twice} in two of its parts. Download all parts of one version."
            )
        tensors |= part.tensors
        metadata |= part.metadata
    return replace(parts[0], path=path, tensors=tensors, metadata=metadata, starts={}, parts=tuple(parts))

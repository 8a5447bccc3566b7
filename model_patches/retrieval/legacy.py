"""Convert image indexes of the first format: index.json, and shards of safetensors and JSON lines."""

import json
import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..store.cancel import until_canceled
from ..store.fields import checked
from ..store.files import path_inside, read_json
from .index import DATABASE, ImageIndex, damage_errors
from .records import Model, Row
from .write import OLD_FILES, IndexWriter

MANIFEST = "index.json"
_SHARD = re.compile("shard-[0-9a-f]+")


@dataclass(frozen=True)
class _Shard:
    name: str
    start: int
    count: int


@dataclass(frozen=True)
class _Row:
    path: str
    sha256: str
    size: int
    mtime_ns: int


def is_old(directory: Path) -> bool:
    """Say whether a folder holds an index of the first format and none of the current one."""
    return (directory / MANIFEST).is_file() and not (directory / DATABASE).exists()


def convert(directory: Path) -> None:
    """Convert an index of the first format; its files are removed when the new ones are complete.

    Raises:
        ValueError: the old files are damaged. They stay as they are.
        DiskRefused: the disk is full or cannot be written.
    """
    with damage_errors(directory):
        try:
            manifest = read_json(directory / MANIFEST)
            model = checked(Model, manifest["model"])
            shards = [checked(_Shard, each) for each in manifest["shards"]]
            if not isinstance(manifest["folder"], str) or not shards:
                raise ValueError(f"it has {len(shards)} shards of the folder {manifest['folder']!r}")
            parts = [
                _read_shard(directory, shard, width=len(model.probe)) for shard in until_canceled(shards)
            ]
            complete = manifest["complete"] is True
        except (KeyError, SafetensorError) as error:
            raise ValueError(error) from None
    new = ImageIndex.empty(directory, folder=manifest["folder"], model=model)
    with closing(IndexWriter(new)) as writer:
        for rows, vectors in until_canceled(parts):
            writer.add(rows, vectors)
        writer.commit(complete=complete)
        writer.remove_files(OLD_FILES)


def _read_shard(directory: Path, shard: _Shard, *, width: int) -> tuple[list[Row], Tensor]:
    """Return the rows of a shard and their vectors (n, D), memory-mapped."""
    if not _SHARD.fullmatch(shard.name) or shard.start < 0 or shard.count < 1:
        raise ValueError(f"it has no shard {shard.name!r} from {shard.start} with {shard.count} pictures")
    paths = [path_inside(directory, f"{shard.name}.{suffix}") for suffix in ("safetensors", "jsonl")]
    for path in paths:
        if not path.is_file():
            raise ValueError(f"{path.name} is missing")
    with safe_open(paths[0], framework="pt") as file:
        vectors = file.get_tensor("vectors")[shard.start : shard.start + shard.count]
    rows = list(_read_rows(paths[1], shard))
    if vectors.shape != (len(rows), width) or vectors.dtype != torch.float16 or len(rows) < shard.count:
        raise ValueError(f"{shard.name} holds {len(rows)} pictures and vectors {tuple(vectors.shape)}")
    return rows, vectors


def _read_rows(path: Path, shard: _Shard) -> Iterator[Row]:
    with path.open(encoding="ascii") as lines:
        for line in islice(lines, shard.start, shard.start + shard.count):
            old = checked(_Row, json.loads(line))
            yield Row(old.path, old.sha256, old.size, old.mtime_ns, ctime_ns=0)

"""Keep embeddings of a folder's pictures on disk: vectors as safetensors, paths and hashes as JSONL.

Layout of an index folder:
    index.json              what the index is and which shards belong to it; replaced whole, so it is the commit
    <shard>.safetensors     "vectors": (n, D) float16, length 1
    <shard>.jsonl           n lines: path relative to the folder, sha256, size, mtime_ns
Rows are sorted by path over all shards. Nothing is ever changed in place: files that `index.json` does not name are
left-overs of an interrupted run and are removed by the next commit.
"""

import json
import re
import secrets
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..store.fields import checked
from ..store.files import atomic_file, path_inside, read_json, write_text
from . import search as retrieval

MANIFEST = "index.json"
FORMAT = "magic141-image-index"
VERSION = 1
SAME_MODEL_COSINE = 0.99
_SHARD = re.compile("shard-[0-9a-f]+")
_SHARD_FILE = re.compile(rf"({_SHARD.pattern})(\.part)?\.(safetensors|jsonl)")


@dataclass(frozen=True)
class Row:
    """One picture of the index; its path is what a file says, see ``path_inside``."""

    path: str
    sha256: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Shard:
    """A run of rows: `count` of those in the files called `name`, from row `start` on."""

    name: str
    start: int
    count: int


@dataclass(frozen=True)
class Model:
    """Which model made the vectors.

    Attributes:
        name: for messages.
        probe: (D,) its embedding of one fixed test picture; models whose probes agree make comparable vectors.
    """

    name: str
    probe: list[float] = field(repr=False)

    def same_as(self, other: "Model") -> bool:
        """Say whether vectors of the two models can be compared."""
        if len(self.probe) != len(other.probe):
            return False
        ours, theirs = torch.tensor(self.probe), torch.tensor(other.probe)
        return bool(torch.cosine_similarity(ours, theirs, dim=0) > SAME_MODEL_COSINE)


class ImageIndex:
    """An index, read only: vectors are memory-mapped shard by shard, rows are read when asked for.

    Attributes:
        directory: where it lives.
        folder: the indexed folder, as the caller names it.
        model: what made the vectors.
        shards: in path order.
        complete: False while a build is under way or was interrupted: some pictures are not in it yet.
    """

    def __init__(
        self,
        directory: Path,
        *,
        folder: str,
        model: Model,
        shards: Iterable[Shard] = (),
        complete: bool = True,
    ) -> None:
        self.directory, self.folder, self.model = directory, folder, model
        self.shards, self.complete = tuple(shards), complete

    @classmethod
    def open(cls, directory: Path) -> "ImageIndex":
        """Open what the last commit left.

        Raises:
            FileNotFoundError: there is no index.
            ValueError: the files are damaged or of a newer version.
        """
        path = directory / MANIFEST
        try:
            manifest = read_json(path)
            if manifest["format"] != FORMAT or manifest["version"] != VERSION:
                raise ValueError(
                    f"{manifest['format']} version {manifest['version']}, expected {FORMAT} {VERSION}"
                )
            model = checked(Model, manifest["model"])
            shards = [checked(Shard, shard) for shard in manifest["shards"]]
            for shard in shards:
                _check_shard(directory, shard, width=len(model.probe))
            folder, complete = manifest["folder"], manifest["complete"]
            if not isinstance(folder, str) or not isinstance(complete, bool):
                raise ValueError(f"it is of the folder {folder!r}")
            return cls(directory, folder=folder, model=model, shards=shards, complete=complete)
        except FileNotFoundError:
            raise FileNotFoundError(
                f"There is no image index '{directory.name}'. Run Build Image Index with this name first."
            ) from None
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise ValueError(_damaged(directory, error)) from None

    def __len__(self) -> int:
        return sum(shard.count for shard in self.shards)

    @cached_property
    def vectors(self) -> list[Tensor]:
        """The vectors of each shard, (n, D) float16, in row order; mapped once, read from disk when touched."""
        return [load_vectors(self.directory, shard) for shard in self.shards]

    def rows(self) -> Iterator[Row]:
        """Yield every row in order.

        Raises:
            ValueError: the files are damaged.
        """
        for shard in self.shards:
            yield from (_row(self.directory, line) for line in _shard_lines(self.directory, shard))

    def search(self, query: Tensor, *, k: int) -> tuple[Tensor, Tensor]:
        """Return the k best cosines and their row numbers, best first; see `retrieval.top_k`."""
        return retrieval.top_k(query, self.vectors, k=k)

    def rows_at(self, positions: list[int]) -> list[Row]:
        """Return the rows with these numbers, in the order asked for; only their shards are read."""
        found: dict[int, Row] = {}
        for number, inside in self._by_shard(positions):
            wanted, shard = set(inside.values()), self.shards[number]
            lines = {i: line for i, line in enumerate(_shard_lines(self.directory, shard)) if i in wanted}
            found |= {position: _row(self.directory, lines[i]) for position, i in inside.items()}
        return [found[position] for position in positions]

    def vectors_at(self, positions: list[int]) -> Tensor:
        """Return the vectors of these rows, (K, D) float16, in the order asked for."""
        if not positions:
            return torch.empty(0, len(self.model.probe), dtype=torch.float16)
        found: dict[int, Tensor] = {}
        for number, inside in self._by_shard(positions):
            found |= {position: self.vectors[number][i].clone() for position, i in inside.items()}
        return torch.stack([found[position] for position in positions])

    def tail(self, first: int) -> list[Shard]:
        """Return the shards that hold the rows from number `first` on."""
        shards = []
        for shard in self.shards:
            cut = min(first, shard.count)
            if cut < shard.count:
                shards.append(Shard(shard.name, shard.start + cut, shard.count - cut))
            first -= cut
        return shards

    def commit(self) -> None:
        """Make these shards the index in one step, then remove the files that no longer belong to it."""
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "folder": self.folder,
            "model": asdict(self.model),
            "complete": self.complete,
            "count": len(self),
            "shards": [asdict(shard) for shard in self.shards],
        }
        write_text(self.directory / MANIFEST, json.dumps(manifest, indent=1))
        self._remove_leftovers()

    def _by_shard(self, positions: list[int]) -> Iterator[tuple[int, dict[int, int]]]:
        """Yield (number of a shard, {row number: row in that shard}) for the shards that hold these rows."""
        ordered, first, offset = sorted(positions), 0, 0
        for number, shard in enumerate(self.shards):
            last = bisect_left(ordered, offset + shard.count, first)
            if last > first:
                yield number, {position: position - offset for position in ordered[first:last]}
            first, offset = last, offset + shard.count

    def _remove_leftovers(self) -> None:
        names = {shard.name for shard in self.shards}
        for path in self.directory.iterdir():
            ours = _SHARD_FILE.fullmatch(path.name)
            if ours and ours[1] not in names:
                try:
                    path.unlink()
                except OSError:  # still mapped by a reader (Windows): the next commit tries again
                    continue


def write_shard(directory: Path, rows: list[Row], vectors: Tensor) -> Shard:
    """Write a new shard; it is part of no index until a commit names it.

    Args:
        directory: the index folder.
        rows: n rows, sorted by path.
        vectors: (n, D), length 1.

    Raises:
        DiskRefused: the disk is full or cannot be written.
    """
    assert len(rows) == len(vectors)
    name = f"shard-{secrets.token_hex(8)}"
    with atomic_file(directory / f"{name}.jsonl") as temporary:  # ASCII only, whatever the file names hold
        temporary.write_bytes("".join(json.dumps(asdict(row)) + "\n" for row in rows).encode("ascii"))
    with atomic_file(directory / f"{name}.safetensors") as temporary:
        temporary.write_bytes(save({"vectors": vectors.to(torch.float16).contiguous()}))
    return Shard(name, 0, len(rows))


def load_vectors(directory: Path, shard: Shard) -> Tensor:
    """Return the vectors of a shard, (n, D) float16, memory-mapped."""
    with safe_open(directory / f"{shard.name}.safetensors", framework="pt") as file:
        return file.get_tensor("vectors")[shard.start : shard.start + shard.count]


def _shard_lines(directory: Path, shard: Shard) -> Iterator[str]:
    num_read = 0
    try:
        with (directory / f"{shard.name}.jsonl").open(encoding="ascii") as lines:
            for line in islice(lines, shard.start, shard.start + shard.count):
                yield line
                num_read += 1
        if num_read < shard.count:
            raise ValueError(f"{shard.name} lists {num_read} pictures, {shard.count} expected")
    except ValueError as error:
        raise ValueError(_damaged(directory, error)) from None


def _row(directory: Path, line: str) -> Row:
    try:
        return checked(Row, json.loads(line))
    except (ValueError, RecursionError) as error:
        raise ValueError(_damaged(directory, error)) from None


def _check_shard(directory: Path, shard: Shard, *, width: int) -> None:
    if not _SHARD.fullmatch(shard.name) or shard.start < 0 or shard.count < 1:
        raise ValueError(f"it has no shard {shard.name!r} from {shard.start} with {shard.count} pictures")
    for suffix in ("safetensors", "jsonl"):
        if not path_inside(directory, f"{shard.name}.{suffix}").is_file():
            raise ValueError(f"{shard.name}.{suffix} is missing")
    with safe_open(directory / f"{shard.name}.safetensors", framework="pt") as file:
        shape = file.get_slice("vectors").get_shape()
    if len(shape) != 2 or shape[1] != width:
        raise ValueError(f"{shard.name} holds vectors of shape {shape}, {width} wide expected")
    if shard.start + shard.count > shape[0]:
        raise ValueError(f"{shard.name} holds {shape[0]} vectors, {shard.start + shard.count} expected")


def _damaged(directory: Path, reason: object) -> str:
    return (
        f"The image index '{directory.name}' is damaged ({reason}). Turn on 'rebuild' in Build Image Index, or delete "
        f"its folder {directory}."
    )

"""A training's tensors on disk, for any number of processes: one safetensors file, and JSON that holds its digest.

The first process writes whole tensors, a tensor at a time; every process reads the rows that it holds.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..dit.stream import RowReader, save_tensors
from ..dit.weights_file import TensorInfo, describe_tensors, read_header
from ..store.cancel import until_canceled
from ..store.disk import DiskRefused
from ..store.files import atomic_folder, file_sha256, read_json_object, write_text
from .old_checkpoint import INDEX, OldCheckpoint
from .parallel import Processes, gathered

FORMAT = 1
TENSORS, NOTE = "state.safetensors", "state.json"
PHASES = "phases"
"""Header entry of a checkpoint that was saved in the middle of a step: how many of its updates are done."""


class StateUnreadable(ValueError):
    """A checkpoint is damaged or of another run; the message says what is wrong with it."""


def write_state(
    target: Path, step: int, tensors: Mapping[str, Tensor], processes: Processes, *, phases: int = 0
) -> None:
    """Write a checkpoint: the whole folder or nothing. Every process must call it.

    Args:
        target: the checkpoint's folder.
        step: how many steps are done.
        phases: how many updates of the following step are done as well.
        tensors: whole ones, or this process's shards (DTensor), alike in every process.
    Raises:
        ValueError, OSError: the first process could not write; raised in every process.
    """
    whole_tensors = ((name, gathered(tensor)) for name, tensor in tensors.items())
    error: Exception | None = None
    if processes.is_first:
        try:
            with atomic_folder(target) as part:
                _write(part, step, tensors, whole_tensors, phases=phases)
        except (OSError, ValueError) as refused:
            error = refused
    for _ in whole_tensors:  # gathering needs every process, even where nothing is written
        pass
    if processes.any(error is not None):
        raise error or OSError(
            f"The first process could not write the checkpoint of step {step}; it says why."
        )


def _write(folder: Path, step: int, tensors: Mapping[str, Tensor], whole_tensors, *, phases: int) -> None:
    save_tensors(folder / TENSORS, tensors, {PHASES: str(phases)} if phases else {}, values=whole_tensors)
    note = {"format": FORMAT, "step": step, "sha256": file_sha256(folder / TENSORS)}
    write_text(folder / NOTE, json.dumps(note))


def check_state(folder: Path, step: int, tensors: Mapping[str, Tensor]) -> None:
    """Check a checkpoint's bytes, and its tensors' names, types and shapes, before any is read.

    A checkpoint of an older version is first rewritten in this version's format.

    Raises:
        StateUnreadable: says what is wrong.
    """
    if (folder / INDEX).is_file() and not (folder / NOTE).exists():
        _rewrite(folder, step, tensors)
    if not (folder / TENSORS).is_file():
        raise StateUnreadable(f"it has no {TENSORS}")
    try:
        note = read_json_object(folder / NOTE)
        digest = file_sha256(folder / TENSORS)
    except (OSError, ValueError) as error:
        raise StateUnreadable(f"it is incomplete or damaged ({error})") from error
    if note.get("format") != FORMAT or note.get("step") != step:
        raise StateUnreadable(
            f"{NOTE} says format {note.get('format')!r}, step {note.get('step')!r}; wanted {FORMAT}, {step}"
        )
    if note.get("sha256") != digest:
        raise StateUnreadable(f"{TENSORS} is damaged: its content is not what was written")
    _check_tensors(folder / TENSORS, describe_tensors(tensors))


def _rewrite(folder: Path, step: int, tensors: Mapping[str, Tensor]) -> None:
    try:
        old = OldCheckpoint(folder)
        with atomic_folder(folder) as part:
            _write(part, step, tensors, _old_tensors(old, tensors), phases=0)
    except DiskRefused:
        raise
    except (OSError, ValueError) as error:
        raise StateUnreadable(f"it was saved by an older version, and {error}") from error


def _old_tensors(old: OldCheckpoint, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    for name, like in until_canceled(tensors.items()):
        try:
            yield name, old.tensor(name.replace("/", "."), like)
        except OSError as error:  # of the old files: not the disk that is written to
            raise ValueError(str(error)) from error


def _check_tensors(path: Path, wanted: Mapping[str, TensorInfo]) -> None:
    try:
        header = read_header(path)
    except ValueError as error:
        raise StateUnreadable(str(error)) from error
    stored = dict(header.tensors) if header.container == "safetensors" else {}
    for name in sorted({*stored, *wanted}):
        if (got := stored.get(name)) != (want := wanted.get(name)):
            raise StateUnreadable(f"{name} is {_describe(got)}, this run has {_describe(want)}")


def _describe(info: TensorInfo | None) -> str:
    return "missing" if info is None else f"{info.dtype} {list(info.shape)}"


@torch.no_grad()
def read_state(folder: Path, tensors: Mapping[str, Tensor], processes: Processes) -> int:
    """Read a checked checkpoint into tensors, of which each process may hold a shard (DTensor).

    Returns:
        How many updates of the following step are done as well.
    """
    header = read_header(folder / TENSORS)
    with RowReader(header) as reader:
        for name, tensor in until_canceled(tensors.items()):
            local, first = tensor.detach(), 0
            if hasattr(local, "to_local"):
                local, first = _local_rows(local, processes)
            count = local.shape[0] if local.ndim else 1
            local.copy_(reader.rows(name, first, first + count).view(local.shape))
    phases = header.metadata.get(PHASES, "0")
    return int(phases) if re.fullmatch("[0-9]{1,6}", phases) else 0


def _local_rows(tensor, processes: Processes) -> tuple[Tensor, int]:
    """Return a process's rows of a tensor that FSDP2 sharded, and which row is their first."""
    assert [placement.is_shard(0) for placement in tensor.placements] == [True], tensor.placements
    rows = -(-tensor.shape[0] // processes.size)
    local, first = tensor.to_local(), min(processes.rank * rows, tensor.shape[0])
    assert local.shape[0] == min(rows, tensor.shape[0] - first), (local.shape, tensor.shape, processes)
    return local, first

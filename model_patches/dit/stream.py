"""Read and write safetensors in pieces of rows, so that memory does not grow with the file.

A new file appears whole or not at all: it is written under a temporary name beside its target and renamed at the
end.
"""

import contextlib
import hashlib
import io
import json
import math
import os
import shutil
import struct
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from ..store.cancel import stop_if_canceled, until_canceled
from ..store.files import atomic_file
from .weights_file import DTYPES, Header, TensorInfo, describe_tensors, load_torch_zip

ALIGNMENT = 8
HASH_CHUNK_BYTES = 1 << 22
READ_AHEAD_BYTES = 1 << 24
PIECE_ELEMENTS = 1 << 20
TYPE_NAMES = {name: code for code, name in DTYPES.items()}


class RowReader:
    """Reads rows of a weights file's tensors: of safetensors from the file, of ``.pth`` from its mapped pages.

    Args:
        digest: is given the bytes that are read, so that hashing needs no second reading.
    """

    def __init__(self, header: Header, *, digest: "FileDigest | None" = None) -> None:
        self.tensors = header.tensors
        self._digest = digest
        self._file: io.FileIO | None = None
        self._mapped: dict[str, Tensor] = {}
        if header.container == "torch":
            self._mapped = load_torch_zip(header.path)
            return
        self._file = header.path.open("rb", buffering=0)
        self._starts = header.starts
        self._ahead = 0

    def __enter__(self) -> "RowReader":
        return self

    def __exit__(self, *_) -> None:
        if self._file is not None:
            self._file.close()

    def rows(self, name: str, first: int, last: int) -> Tensor:
        """Return rows ``first`` to ``last`` (exclusive) of a tensor; a scalar counts as one row."""
        if self._file is None:
            tensor = self._mapped[name]
            return (tensor[None] if tensor.ndim == 0 else tensor)[first:last]
        dtype, shape = self.tensors[name]
        row_shape = shape[1:]
        item = torch_dtype(dtype)
        row_bytes = math.prod(row_shape) * item.itemsize
        start = self._starts[name] + first * row_bytes
        data = torch.empty((last - first) * row_bytes, dtype=torch.uint8)
        self._file.seek(start)
        view = buffer = data.numpy().data
        while view:
            count = self._file.readinto(view)
            if not count:
                raise OSError(f"The file ended inside {name}. It changed while it was read; try again.")
            view = view[count:]
        self._read_ahead(start + len(buffer))
        if self._digest is not None:
            self._digest.add(start, buffer)
        return data.view(item).reshape(-1, *row_shape) if len(buffer) else torch.empty(0, dtype=item)

    def _read_ahead(self, end: int) -> None:
        """Have the system read what follows while the caller computes; without ``posix_fadvise`` it decides itself."""
        if hasattr(os, "posix_fadvise") and self._ahead - end < READ_AHEAD_BYTES:
            assert self._file is not None
            start = max(end, self._ahead)
            os.posix_fadvise(self._file.fileno(), start, 2 * READ_AHEAD_BYTES, os.POSIX_FADV_WILLNEED)
            self._ahead = start + 2 * READ_AHEAD_BYTES


class FileDigest:
    """The SHA-256 of a file that a caller reads for another purpose, mostly in order.

    Bytes that were not passed to ``add`` are read here. A thread hashes while the caller goes on.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        self._sha256 = hashlib.sha256()
        self._position = 0
        self._thread = ThreadPoolExecutor(1)
        self._hashing: Future | None = None

    def __enter__(self) -> "FileDigest":
        return self

    def __exit__(self, *_) -> None:
        self._thread.shutdown()
        self._file.close()

    def add(self, start: int, data: memoryview) -> None:
        """Hash bytes that were read at ``start`` and that nobody changes."""
        self._read_until(start)
        if 0 <= (num_hashed := self._position - start) < len(data):
            self._hash(data[num_hashed:])

    def hexdigest(self) -> str:
        """Return the digest of the whole file."""
        self._read_until(None)
        if self._hashing is not None:
            self._hashing.result()
        return self._sha256.hexdigest()

    def _read_until(self, end: int | None) -> None:
        while end is None or self._position < end:
            self._file.seek(self._position)
            stop_if_canceled()
            count = HASH_CHUNK_BYTES if end is None else min(HASH_CHUNK_BYTES, end - self._position)
            if not (piece := self._file.read(count)):
                return
            self._hash(memoryview(piece))

    def _hash(self, data: memoryview) -> None:
        if self._hashing is not None:
            self._hashing.result()
        self._hashing = self._thread.submit(self._sha256.update, data)
        self._position += len(data)


class TensorWriter:
    """Write the tensors of one safetensors file, in any order and in pieces."""

    def __init__(
        self, file: BinaryIO, tensors: Mapping[str, TensorInfo], metadata: Mapping[str, str]
    ) -> None:
        self._file = file
        self._offsets: dict[str, int] = {}
        entries: dict = {"__metadata__": dict(metadata)}
        position = 0
        for name in sorted(tensors, key=lambda k: (-torch_dtype(tensors[k].dtype).itemsize, k)):
            dtype, shape = tensors[name]
            end = position + math.prod(shape) * torch_dtype(dtype).itemsize
            offsets = [position, end]
            entries[name] = {"dtype": TYPE_NAMES[dtype], "shape": list(shape), "data_offsets": offsets}
            self._offsets[name], position = position, end
        self._entries = entries
        header = self._header()
        file.write(header)
        self._start = len(header)
        file.truncate(self._start + position)

    def set_metadata(self, metadata: Mapping[str, str]) -> None:
        """Replace the metadata by an equally long one, which is known only at the end."""
        self._entries["__metadata__"] = dict(metadata)
        header = self._header()
        assert len(header) == self._start, (len(header), self._start)
        self._file.seek(0)
        self._file.write(header)

    def _header(self) -> bytes:
        text = json.dumps(self._entries).encode()
        text += b" " * (-len(text) % ALIGNMENT)
        return struct.pack("<Q", len(text)) + text

    def write(self, name: str, values: Tensor) -> None:
        """Write the next values of this tensor."""
        data = values.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
        self._file.seek(self._start + self._offsets[name])
        self._file.write(data)
        self._offsets[name] += data.nbytes


def save_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
    *,
    values: Iterable[tuple[str, Tensor]] | None = None,
) -> None:
    """Write a safetensors file; safetensors' own writer leaves a hidden file behind when it is killed.

    Args:
        tensors: give names, types and shapes, and the values unless ``values`` does.
        values: the tensors to write, in any order.
    """
    with path.open("wb") as file:
        write_tensors(file, tensors, metadata or {}, values=values)


def write_tensors(
    file: BinaryIO,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    *,
    values: Iterable[tuple[str, Tensor]] | None = None,
) -> None:
    """Write tensors into an open file, a piece at a time; see ``save_tensors``."""
    writer = TensorWriter(file, describe_tensors(tensors), metadata)
    for name, tensor in tensors.items() if values is None else values:
        for piece in until_canceled(tensor.reshape(-1).split(PIECE_ELEMENTS)):
            writer.write(name, piece)


@contextlib.contextmanager
def whole_file(target: Path, *, num_bytes: int, overwrite: bool) -> Iterator[BinaryIO]:
    """Open a temporary file that becomes ``target`` when the block ends well, and vanishes otherwise.

    Args:
        num_bytes: how large it will be; checked against the free space first.
    Raises:
        FileExistsError: the target is there and ``overwrite`` is False.
        KeptElsewhere: the old file is in use (Windows); the new one is whole under another name.
        DiskRefused: the disk filled up or cannot be written.
        OSError: there is too little room from the start.
    """
    refuse_to_overwrite(target, overwrite=overwrite)
    free = shutil.disk_usage(target.parent).free
    if free < num_bytes:
        raise OSError(
            f"{target.name} needs {gigabytes(num_bytes)} and {target.parent} has {gigabytes(free)} free. "
            "Free some space or choose another folder."
        )
    with only_writer_of(target), atomic_file(target, listed=False) as part:
        with part.open("wb") as file:
            yield file
        refuse_to_overwrite(target, overwrite=overwrite)


@contextlib.contextmanager
def only_writer_of(target: Path) -> Iterator[None]:
    """Let one process of this machine at a time write a file.

    Raises:
        FileExistsError: another one is writing it.
    """
    name = hashlib.sha256(os.path.realpath(target).encode()).hexdigest()[:16]
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "")
    lock = FileLock(Path(tempfile.gettempdir()) / f"magic141-{user}-{name}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise FileExistsError(
            f"{target.name} is being written by another run. Wait for it to end, or choose another name."
        ) from None
    try:
        yield
    finally:
        lock.release()


def refuse_to_overwrite(target: Path, *, overwrite: bool) -> None:
    """Raise FileExistsError unless the target is free or may be replaced."""
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target.name} exists already. Choose another name, or switch overwrite on.")


def torch_dtype(name: str) -> torch.dtype:
    """Return torch's dtype of a header's type name.

    Raises:
        ValueError: a type this pack does not copy.
    """
    dtype = getattr(torch, name, None)
    if name not in TYPE_NAMES or not isinstance(dtype, torch.dtype):
        raise ValueError(f"The file holds tensors of type {name}, which cannot be read here.")
    return dtype


def gigabytes(num_bytes: float) -> str:
    """Write a size for people."""
    return f"{num_bytes / 1e9:.2f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:.1f} MB"

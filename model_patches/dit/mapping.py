"""Map weights files of any size into memory, without reserving memory for writes.

Libraries map files for reading and writing. Linux refuses that for a file larger than memory and swap together,
although nothing is written. The views here may be written to as well: the process then gets copies of the pages it
writes, and the file stays as it is.
"""

import mmap
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

#: Linux's flag for pages that need no memory before they are written; Python names it from 3.13 on.
NO_RESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000) if sys.platform == "linux" else 0


def map_tensors(
    path: Path, tensors: Mapping[str, tuple[str, tuple[int, ...]]], starts: Mapping[str, int]
) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file as views of it; nothing is read before it is used.

    Args:
        tensors: type and shape of each.
        starts: where the bytes of each start in the file.
    Raises:
        ValueError: the computer has no room to map the file; the message says what to do.
    """
    pages = _map_file(path)
    return {
        key: _view(pages, getattr(torch, dtype), starts[key], tuple(shape))
        for key, (dtype, shape) in tensors.items()
    }


def map_torch_tensors(path: Path, on_meta: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a ``.pth`` as views of it.

    Args:
        on_meta: the same tensors on the meta device, as ``torch.load`` returns them; torch notes their places.
    Raises:
        ValueError: there is no room to map the file, or this torch notes no places.
    """
    pages = _map_file(path)
    return {key: _view_of_storage(pages, tensor, path) for key, tensor in on_meta.items()}


def is_refused_mapping(error: BaseException) -> bool:
    """Say whether a library could not map a file because it had to reserve memory for all of it."""
    return "unable to mmap" in str(error) or "Cannot allocate memory" in str(error)


def _map_file(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        try:
            if sys.platform == "win32":
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            protection = mmap.PROT_READ | mmap.PROT_WRITE
            return mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE | NO_RESERVE, prot=protection)
        except OSError:
            raise ValueError(_too_large(path)) from None


def _too_large(path: Path) -> str:
    return (
        f"{path.name} ({path.stat().st_size / 1e9:.1f} GB) is larger than what this computer lets a program open at "
        "once, its memory and swap together. Add swap (on Windows: enlarge the page file), or run Quantize File on "
        "the model first, which reads safetensors a few rows at a time, and load the smaller file."
    )


def _view(pages: mmap.mmap, dtype: torch.dtype, start: int, shape: tuple[int, ...]) -> Tensor:
    count = torch.Size(shape).numel()
    if count == 0:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(pages, dtype=dtype, count=count, offset=start).view(shape)


def _view_of_storage(pages: mmap.mmap, tensor: Tensor, path: Path) -> Tensor:
    storage = tensor.untyped_storage()
    start = getattr(storage, "_checkpoint_offset", None)
    if start is None:
        raise ValueError(_too_large(path))
    whole = _view(pages, tensor.dtype, start, (storage.nbytes() // tensor.dtype.itemsize,))
    return whole.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())

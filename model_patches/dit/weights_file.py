"""Read what a weights file holds from its header: names, types and shapes, but no weights."""

import json
import math
import pickle
import re
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .mapping import is_refused_mapping, map_torch_tensors

#: Where trainers keep the weights inside a ``.pth``, in order of preference.
STATE_DICT_KEYS = ("state_dict", "module", "model")
MAX_NESTING = 4
MAX_HEADER_BYTES = 100_000_000
#: How many times its own size the tensors of a ``.pth`` may take: with an EMA or a critic they may share storages.
MAX_SHARING = 8

#: safetensors' type names to torch's.
DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip


class TensorInfo(NamedTuple):
    dtype: str
    shape: tuple[int, ...]


def describe_tensors(tensors: Mapping[str, Tensor]) -> dict[str, TensorInfo]:
    """Return types and shapes of tensors, as a header states them."""
    return {k: TensorInfo(str(v.dtype).removeprefix("torch."), tuple(v.shape)) for k, v in tensors.items()}


@dataclass(frozen=True)
class Header:
    """A weights file without its weights."""

    path: Path
    container: str  # "safetensors" or "torch"
    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]
    #: Where each tensor's bytes start in a safetensors file.
    starts: Mapping[str, int] = field(default_factory=dict)
    #: The files of a model in several parts; ``path`` is then the name it would have as one file.
    parts: "tuple[Header, ...]" = ()

    @property
    def files(self) -> "tuple[Header, ...]":
        """The headers of the files there are."""
        return self.parts or (self,)

    @property
    def num_bytes(self) -> int:
        """Bytes of all its files."""
        return sum(file.path.stat().st_size for file in self.files)


def read_header(path: str | Path) -> Header:
    """Read names, types and shapes of a weights file, deciding what it is by its content.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no weights file, it is damaged, or reading it would execute code.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist. Put the model into models/diffusion_models.")
    with path.open("rb") as file:
        start = file.read(32)
    if not _begins_as_safetensors(start, path.stat().st_size):
        if start.startswith(b"PK"):
            return Header(path, "torch", describe_tensors(load_torch_zip(path, device="meta")), {})
        _refuse_other_formats(path, start)
    return _safetensors_header(path)


def _begins_as_safetensors(start: bytes, file_size: int) -> bool:
    """Look for a header's length and brace; the length alone may look like the start of a zip or a pickle."""
    return start[8:9] == b"{" and 8 + int.from_bytes(start[:8], "little") <= file_size


def load_torch_zip(path: Path, *, device: str = "cpu") -> dict[str, Tensor]:
    """Load the weights of a ``.pth`` as views of the mapped file; nothing in it is executed.

    Raises:
        ValueError: damaged, would execute code, or holds no state dict.
    """
    if not zipfile.is_zipfile(path):  # its table of contents stands at the end
        raise ValueError(f"{path.name} is damaged or incomplete: its end is missing. Download it again.")
    weights = _find_state_dict(_unpickle(path, device), path.name)
    _refuse_inflated(weights, path)
    if device != "meta" and any(tensor.is_meta for tensor in weights.values()):
        weights = map_torch_tensors(path, weights)
    return weights


def _unpickle(path: Path, device: str, *, mapped: bool = True) -> Any:
    """Return what a ``.pth`` holds; its tensors are on the meta device where torch cannot map the file."""
    try:
        return torch.load(path, map_location=device, weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise ValueError(f"{path.name} {unpickling_trouble(error)}") from None
    except (RuntimeError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        if mapped and is_refused_mapping(error):
            return _unpickle(path, "meta", mapped=False)
        raise ValueError(
            f"{path.name} is damaged or incomplete: {_first_line(error)}. Download it again."
        ) from None


def _refuse_inflated(weights: Mapping[str, Tensor], path: Path) -> None:
    """Refuse tensors that claim more bytes than the file holds: a few bytes repeated by strides would fill the RAM."""
    claimed, size = sum(tensor.nbytes for tensor in weights.values()), path.stat().st_size
    for key, tensor in weights.items():
        if tensor.nbytes > tensor.untyped_storage().nbytes() or claimed > MAX_SHARING * size:
            raise ValueError(
                f"{path.name} is damaged: {key} has shape {tuple(tensor.shape)}, and all tensors together would be"
                f" {claimed:,} bytes, but the file has only {size:,}. Save it again with plain, contiguous tensors."
            )


def _find_state_dict(content: Any, name: str) -> dict[str, Tensor]:
    for _ in range(MAX_NESTING):
        if not isinstance(content, dict):
            break
        tensors = {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}
        inner = [v for v in content.values() if isinstance(v, dict)]
        named = [content[k] for k in STATE_DICT_KEYS if isinstance(content.get(k), dict)]
        if named:
            content = named[0]
        elif tensors:
            return tensors
        elif len(inner) == 1:
            content = inner[0]
        else:
            break
    raise ValueError(
        f"{name} holds no state dict: a dict of tensors, or one under {', '.join(STATE_DICT_KEYS)}, is expected."
    )


def _safetensors_header(path: Path) -> Header:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        if length > min(MAX_HEADER_BYTES, size - 8):
            raise ValueError(
                f"{path.name} is damaged or no safetensors file: its header would be {length} bytes long,"
                f" the file is {size}. Download it again."
            )
        try:
            entries = json.loads(file.read(length), object_pairs_hook=_without_doubles)
            metadata = {str(k): str(v) for k, v in entries.pop("__metadata__", {}).items()}
            tensors = {
                k: TensorInfo(DTYPES.get(v["dtype"]) or v["dtype"], tuple(v["shape"]))
                for k, v in entries.items()
            }
            spans = {k: (int(v["data_offsets"][0]), int(v["data_offsets"][1])) for k, v in entries.items()}
            wrong = next((k for k in spans if not _fills(tensors[k], *spans[k])), None)
        except DoubledKey as error:
            raise ValueError(
                f"{path.name} has a damaged safetensors header: it names {error} twice. Download it again."
            ) from None
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
            raise ValueError(f"{path.name} has a damaged safetensors header. Download it again.") from None
    if wrong is not None:
        raise ValueError(
            f"{path.name} has a damaged safetensors header: {wrong} is {tensors[wrong].dtype} of shape"
            f" {tensors[wrong].shape}, which does not fill its bytes {spans[wrong]}. Download it again."
        )
    end = _end_of_data(spans, path.name)
    if (expected := 8 + length + end) != size:
        trouble = "truncated" if size < expected else "longer than its header says"
        raise ValueError(
            f"{path.name} is {trouble}: {size} bytes, {expected} were expected. Download or copy it again."
        )
    starts = {key: 8 + length + start for key, (start, _) in spans.items()}
    return Header(path, "safetensors", tensors, metadata, starts)


class DoubledKey(Exception):
    """A JSON object names a key twice."""


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        names = [name for name, _ in pairs]
        raise DoubledKey(next(name for name in names if names.count(name) > 1))
    return entries


def _end_of_data(spans: Mapping[str, tuple[int, int]], name: str) -> int:
    """Return where the last tensor ends; between them there may be neither overlaps nor holes."""
    end = 0
    for key, (start, stop) in sorted(spans.items(), key=lambda item: item[1]):
        if start != end:
            trouble = "lies over another tensor" if start < end else "has unused bytes before it"
            raise ValueError(
                f"{name} has a damaged safetensors header: {key} {trouble} (it starts at byte {start}, {end} was"
                " expected). Download it again."
            )
        end = stop
    return end


def _fills(info: TensorInfo, start: int, stop: int) -> bool:
    """Say whether a tensor's bytes are as many as its type and shape need; of a type unknown here, any number is."""
    size = getattr(getattr(torch, info.dtype, None), "itemsize", None)
    return 0 <= start <= stop and (size is None or stop - start == size * math.prod(info.shape))


def _refuse_other_formats(path: Path, start: bytes) -> None:
    if len(start) < 8:
        raise ValueError(f"{path.name} is empty ({len(start)} bytes). Download or copy it again.")
    if start.startswith(b"GGUF"):
        raise ValueError(
            f"{path.name} is a GGUF file. Load it with a GGUF loader node; its MODEL works with these samplers."
        )
    if start.startswith((b"version https://git", b"<!DOCTYPE", b"<html", b"<!doctype")):
        raise ValueError(
            f"{path.name} is a text page or a Git LFS pointer, not the weights. Download the file itself."
        )
    if start[0] == 0x80 and start[1] < 6:
        raise ValueError(
            f"{path.name} is a bare pickle (before PyTorch 1.6), which cannot be read without holding it twice"
            f" in memory. Save it again with a current torch.save, or as safetensors."
        )


def unpickling_trouble(error: pickle.UnpicklingError) -> str:
    """Say why torch refused a file, leaving out its advice on opening the file anyway."""
    text = _without_colors(str(error))
    if code := re.search(r"GLOBAL (\S+)", text):
        return (
            "would execute code when opened, so it was not opened. It must hold tensors only; ask its author for a"
            f" safetensors file. (Found in it: {code[1]})"
        )
    refused = text.partition("WeightsUnpickler error:")[2].strip().partition("\n")[0] or "no list of tensors"
    return (
        "is damaged, or holds more than tensors, so it was not opened. Download it again, or ask its author for a"
        f" safetensors file. (Found in it: {refused})"
    )


def _without_colors(text: str) -> str:
    """Return a text without the terminal's colors, which a browser shows as [1m."""
    return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)


def _first_line(error: BaseException) -> str:
    return (_without_colors(str(error)).strip() or type(error).__name__).splitlines()[0].rstrip(".")[:200]

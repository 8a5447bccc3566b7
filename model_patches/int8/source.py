"""The source of a quantized file: which rows make up each weight, and which weights belong to Linears of blocks."""

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from ..dit.checkpoint import identify
from ..dit.stream import FileDigest, RowReader
from ..dit.weights_file import Header, TensorInfo
from ..store.cancel import stop_if_canceled
from .quantize import BLOCK_WEIGHT

FP8_TYPES = ("float8_e4m3fn", "float8_e5m2")
#: Where fp8 files keep a weight's scale, in the host's older and newer convention.
FP8_SCALES = (".scale_weight", ".weight_scale")
#: Endings of keys that describe a weight but are not weights.
COMPANIONS = (*FP8_SCALES, ".scale_input", ".input_scale", ".comfy_quant", "scaled_fp8")
#: The type in which the host multiplies a weight that was fp8.
FP8_BECOMES = "bfloat16"
FLOAT_TYPES = ("float32", "float16", "bfloat16", "float64")

#: Files that are quantized already: the ending of a key (None: any), its type (None: any), and the format's name.
QUANTIZED_KINDS = (
    (".weight_scale_2", None, "nvfp4"),
    (".comfy_quant", None, "ComfyUI's quantized format"),
    (".absmax", None, "bitsandbytes"),
    (".qzeros", None, "GPTQ or AWQ"),
    (".qweight", None, "GPTQ, AWQ or Nunchaku"),
    (".weight_scale", None, "a format with scales"),
    (None, "float8_e4m3fn", "fp8 without scales"),
    (None, "float8_e5m2", "fp8 without scales"),
    (None, "int8", "int8"),
    (None, "uint8", "4 bits"),
)


#: Elements read at a time: smaller blocks pass too often from thread to thread, larger ones take more memory.
BLOCK_ELEMENTS = 1 << 19
#: Elements that become fp32 at a time: what the arithmetic needs stays in the processor's cache.
CHUNK_ELEMENTS = 1 << 17

#: The family whose keys this pack knows without the host.
HUNYUAN = "HunyuanVideo"


class Piece(NamedTuple):
    """Rows ``first`` to ``last`` (exclusive) of a tensor in a file."""

    key: str
    first: int
    last: int


class Block(NamedTuple):
    """Some rows of a weight, as the file holds them.

    Args:
        first_row: where they begin in the weight.
        scale: what to multiply them by if they are fp8, fp32 (rows, 1 ...); else None.
    """

    rows: Tensor
    first_row: int
    scale: Tensor | None

    def chunks(self) -> Iterator[Tensor]:
        """Yield a few rows at a time, fp8 multiplied out."""
        step = rows_of(CHUNK_ELEMENTS, self.rows.shape)
        for first in range(0, len(self.rows), step):
            rows = self.rows[first : first + step]
            yield rows if self.scale is None else rows.float() * self.scale[first : first + step]


def rows_of(elements: int, shape: tuple[int, ...]) -> int:
    """Return how many rows of a tensor hold this many elements; at least one."""
    return max(1, elements // max(1, math.prod(shape[1:])))


@dataclass(frozen=True)
class SourceLayout:
    """A diffusion model as its files hold it.

    Args:
        family: what the host calls it.
        pieces: the new file's keys, and the rows that each is made of.
        blocks: the keys of ``pieces`` that are weights of Linears inside the repeated blocks.
        linears: the keys of all weights of Linears.
        modules: names of weights in the host's module, where they are not the keys.
    """

    family: str
    pieces: Mapping[str, tuple[Piece, ...]]
    blocks: frozenset[str]
    linears: frozenset[str]
    modules: Mapping[str, str] = field(default_factory=dict)

    def layer(self, key: str) -> str:
        """Return the name of the Linear that a weight belongs to, in the host's module."""
        return self.modules.get(key, key).removesuffix(".weight")

    def weights(self, header: Header) -> dict[str, TensorInfo]:
        """Return the types and shapes of all weights, not quantized."""
        return {key: weight_info(header, pieces) for key, pieces in self.pieces.items()}


def hunyuan_layout(header: Header) -> SourceLayout:
    """Return the layout of a HunyuanVideo checkpoint, in the host's names.

    Raises:
        ValueError: it is something else, damaged, or incomplete.
    """
    renames = identify(header).renames
    shapes = {key: header.tensors[key].shape for key in renames}
    pieces = {host: all_rows(key, shapes[key]) for key, host in renames.items() if not is_companion(key)}
    linears = {h for k, h in renames.items() if h.endswith(".weight") and len(shapes[k]) == 2}
    blocks = frozenset(host for host in linears if BLOCK_WEIGHT.match(host))
    return SourceLayout(HUNYUAN, pieces, blocks, frozenset(linears))


def all_rows(key: str, shape: tuple[int, ...]) -> tuple[Piece, ...]:
    """Return all rows of a tensor."""
    return (Piece(key, 0, shape[0] if shape else 1),)


def is_companion(key: str) -> bool:
    """Say whether a key holds a scale or a description of a weight, not a weight."""
    return key.endswith(COMPANIONS)


def refuse_quantized(header: Header, *, allow_plain_fp8: bool = False) -> None:
    """Raise ValueError, naming the kind, unless all weights are floating point or fp8 with scales.

    Args:
        allow_plain_fp8: accept matrices of fp8 that have no scale.
    """
    for key, (dtype, shape) in header.tensors.items():
        is_matrix = len(shape) == 2
        if key.endswith(COMPANIONS) and _describes_fp8(header, key):
            continue
        is_known_fp8 = dtype in FP8_TYPES and (allow_plain_fp8 or _scale_key(header, key))
        if is_matrix and (dtype in FLOAT_TYPES or is_known_fp8):
            continue
        for ending, kind_type, kind in QUANTIZED_KINDS:
            if key.endswith(ending) if ending else is_matrix and dtype == kind_type:
                raise ValueError(
                    f"{header.path.name} is quantized already, to {kind} ({key} is {dtype}). Start from the bf16, "
                    "fp16, fp32 or fp8_scaled checkpoint."
                )


def _describes_fp8(header: Header, key: str) -> bool:
    weight = header.tensors.get(f"{key.rpartition('.')[0]}.weight")
    return key.endswith("scaled_fp8") or (weight is not None and weight.dtype in FP8_TYPES)


def _scale_key(header: Header, key: str) -> str | None:
    name = key.removesuffix(".weight")
    return next((name + ending for ending in FP8_SCALES if name + ending in header.tensors), None)


class SourceReader:
    """Reads a model's weights under the keys of the new file, and hashes the files on the way."""

    def __init__(self, header: Header, layout: SourceLayout) -> None:
        self.layout = layout
        self._header = header
        self._stack = contextlib.ExitStack()
        self._readers: dict[str, RowReader] = {}
        self._places: dict[str, tuple[int, int]] = {}
        self._digests: list[FileDigest] = []
        self._scales: dict[str, Tensor] = {}

    def __enter__(self) -> "SourceReader":
        for number, file in enumerate(self._header.files):
            digest = self._stack.enter_context(FileDigest(file.path))
            reader = self._stack.enter_context(RowReader(file, digest=digest))
            self._digests.append(digest)
            self._readers |= dict.fromkeys(file.tensors, reader)
            self._places |= {key: (number, file.starts.get(key, 0)) for key in file.tensors}
        return self

    def __exit__(self, *_) -> None:
        self._stack.close()

    def info(self, key: str) -> TensorInfo:
        """Return the type and shape of a weight in the new file, if it is not quantized."""
        return weight_info(self._header, self.layout.pieces[key])

    def origin(self, key: str) -> str:
        """Return the name of a weight in the source file, for messages."""
        return self.layout.pieces[key][0].key

    def in_file_order(self) -> list[str]:
        """Return the new file's keys in the order in which their weights lie in the files."""
        return sorted(self.layout.pieces, key=lambda key: self._places[self.layout.pieces[key][0].key])

    def blocks(self, key: str) -> Iterator[Block]:
        """Yield all rows of a weight, some at a time."""
        first_row = 0
        for piece in self.layout.pieces[key]:
            step = rows_of(BLOCK_ELEMENTS, self._header.tensors[piece.key].shape)
            for first in range(piece.first, piece.last, step):
                stop_if_canceled()
                last = min(first + step, piece.last)
                rows = self._readers[piece.key].rows(piece.key, first, last)
                scale = self._scale(piece.key)
                yield Block(rows, first_row, None if scale is None else scale[first:last])
                first_row += last - first

    def digests(self) -> list[str]:
        """Return the SHA-256 of each file."""
        return [digest.hexdigest() for digest in self._digests]

    def _scale(self, key: str) -> Tensor | None:
        """Return what to multiply the rows of fp8 by, fp32 (rows, 1 ...); None for other types."""
        if self._header.tensors[key].dtype not in FP8_TYPES:
            return None
        if key not in self._scales:
            self._scales[key] = self._read_scale(key)
        return self._scales[key]

    def _read_scale(self, key: str) -> Tensor:
        name = _scale_key(self._header, key)
        num_rows, *columns = self._header.tensors[key].shape or (1,)
        one_a_row = (num_rows, *(1 for _ in columns))
        if name is None:
            return torch.ones(one_a_row)
        shape = self._header.tensors[name].shape
        scale = self._readers[name].rows(name, 0, shape[0] if shape else 1).float()
        if scale.numel() not in (1, num_rows) or not bool((scale.isfinite() & (scale > 0)).all()):
            raise ValueError(
                f"{name} of shape {shape} is not a scale of {key}: one value, or one for each of {num_rows} rows, "
                "finite and above zero, is expected"
            )
        return scale.reshape(-1, *one_a_row[1:]).expand(one_a_row)


def weight_info(header: Header, pieces: tuple[Piece, ...]) -> TensorInfo:
    """Return the type and shape of a weight made of pieces; what is fp8 becomes bf16."""
    dtype, shape = header.tensors[pieces[0].key]
    if shape:
        shape = (sum(piece.last - piece.first for piece in pieces), *shape[1:])
    return TensorInfo(FP8_BECOMES if dtype in FP8_TYPES else dtype, shape)

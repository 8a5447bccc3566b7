"""Rewrite the checkpoints of older versions, in torch.distributed.checkpoint's format, as this version's.

That format's index is a pickle. Nothing in it can execute here: a class it names becomes a plain record or is refused.
"""

import io
import pickle
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

import torch
from torch import Tensor

INDEX = ".metadata"
_RECORDS = {
    "pathlib": ("PosixPath", "WindowsPath"),
    "torch.serialization": ("_get_layout",),
    "torch.distributed.checkpoint.filesystem": ("_StorageInfo",),
    "torch.distributed.checkpoint.metadata": (
        "ChunkStorageMetadata",
        "Metadata",
        "MetadataIndex",
        "StorageMeta",
        "TensorProperties",
        "TensorStorageMetadata",
        "_MEM_FORMAT_ENCODING",
    ),
}
_DTYPES = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "uint8", "bool")


class _Record:
    """Stands in for every class of the index, and does nothing."""

    def __init__(self, *_: Any) -> None:
        self.fields: dict = {}

    def __setstate__(self, fields: Any) -> None:
        self.fields = fields if isinstance(fields, dict) else {}


class _IndexReader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        if (module, name) == ("torch", "Size"):
            return tuple
        if module == "torch" and name in _DTYPES:
            return name
        if name in _RECORDS.get(module, ()):
            return _Record
        raise pickle.UnpicklingError(f"{module}.{name} has no place in it")


class OldCheckpoint:
    """A checkpoint of an older version.

    Args:
        folder: of the checkpoint.
    Raises:
        ValueError: it is damaged, or would execute code.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pieces: defaultdict[str, list[tuple[tuple, dict]]] = defaultdict(list)
        try:
            with (folder / INDEX).open("rb") as file:
                stored = _IndexReader(file).load().fields["storage_data"]
            for index, place in stored.items():
                piece = tuple(index.fields.get("offset") or ()), place.fields
                self._pieces[index.fields["fqn"]].append(piece)
        except Exception as error:  # any bytes may be in it
            raise ValueError(
                f"{INDEX} is damaged or would execute code, so it was not opened: {error}"
            ) from error

    def tensor(self, name: str, like: Tensor) -> Tensor:
        """Return a whole tensor, put together from its pieces.

        Args:
            like: has its shape and type.
        Raises:
            ValueError: it is missing, damaged, or of another shape or type.
        """
        whole, filled = torch.zeros(like.shape, dtype=like.dtype), 0
        try:
            for offset, place in self._pieces[name]:
                piece = self._piece(place)
                if piece.dtype != whole.dtype:
                    raise ValueError(f"it is {piece.dtype}, wanted {whole.dtype}")
                window = whole
                for dim, (first, count) in enumerate(zip(offset, piece.shape, strict=True)):
                    window = window.narrow(dim, first, count)
                window.copy_(piece.view(window.shape))
                filled += piece.numel()
        except Exception as error:  # any bytes may be in it
            raise ValueError(f"{name} is damaged: {error}") from error
        if filled != whole.numel():
            raise ValueError(f"{name} has {filled} values, wanted {whole.numel()}")
        return whole

    def _piece(self, place: Mapping) -> Tensor:
        name = place["relative_path"]
        if PurePath(name).name != name or place.get("transform_descriptors"):
            raise ValueError(f"it is said to lie in {name!r}")
        with (self._folder / name).open("rb") as file:
            file.seek(place["offset"])
            content = file.read(place["length"])
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)

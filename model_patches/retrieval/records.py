"""The records of an image index: its pictures, the model that made their vectors, and its description."""

import json
import re
import zlib
from dataclasses import asdict, dataclass, field

import torch

from ..store.fields import checked

FORMAT, VERSION = "magic141-image-index", 2
SAME_MODEL_COSINE = 0.99
BYTES_PER_VALUE = 2
VECTORS = re.compile(r"vectors-[0-9a-f]+\.f16")


@dataclass(frozen=True)
class Row:
    """One picture of the index.

    Attributes:
        path: relative to the folder, with forward slashes; untrusted, see ``path_inside``.
        ctime_ns: when the file's entry last changed; a replaced file cannot have the old one.
        position: number of its vector.
    """

    path: str
    sha256: str
    size: int
    mtime_ns: int
    ctime_ns: int
    position: int = -1

    def to_sql(self) -> tuple:
        """Return the columns of the row, its checksum last."""
        path = self.path.encode("utf-8", "surrogatepass")
        values = (path, self.sha256, self.size, self.mtime_ns, self.ctime_ns, self.position)
        return (*values, _checksum(values))

    @classmethod
    def from_sql(cls, columns: tuple) -> "Row":
        """Return the row with these columns.

        Raises:
            ValueError: they are not what was written.
        """
        *values, crc32 = columns
        if not isinstance(values[0], bytes) or _checksum(tuple(values)) != crc32:
            raise ValueError("the entry of a picture has another checksum than when it was written")
        path = values[0].decode("utf-8", "surrogatepass")
        return checked(cls, dict(zip(cls.__dataclass_fields__, (path, *values[1:]), strict=True)))


def _checksum(values: tuple) -> int:
    return zlib.crc32(repr(values).encode("utf-8", "surrogatepass"))


@dataclass(frozen=True)
class Model:
    """The model that made the vectors.

    Attributes:
        name: for messages.
        probe: (D,) its vector of one fixed test picture; models with nearly the same probe make comparable vectors.
    """

    name: str
    probe: list[float] = field(repr=False)

    def same_as(self, other: "Model") -> bool:
        """Say whether vectors of the two models can be compared."""
        if len(self.probe) != len(other.probe):
            return False
        ours, theirs = torch.tensor(self.probe), torch.tensor(other.probe)
        return bool(torch.cosine_similarity(ours, theirs, dim=0) > SAME_MODEL_COSINE)


@dataclass(frozen=True)
class About:
    """The description that an index stores of itself.

    Attributes:
        folder: the indexed folder, as the caller names it.
        complete: False while a build is under way or was interrupted: some pictures are not in it yet.
        vectors: name of the file with the vectors.
        count: vectors in it, those of removed pictures included.
        crc32: of their bytes.
    """

    folder: str
    model_name: str
    probe: list[float]
    complete: bool = True
    vectors: str = ""
    count: int = 0
    crc32: int = 0
    format: str = FORMAT
    version: int = VERSION

    @property
    def bytes_per_vector(self) -> int:
        return BYTES_PER_VALUE * len(self.probe)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "About":
        """Read the description of an index.

        Raises:
            ValueError: it is of another version or damaged.
        """
        values = json.loads(text)
        version = (values.get("format"), values.get("version")) if isinstance(values, dict) else ()
        if version != (FORMAT, VERSION):
            raise ValueError(f"it is {version}, expected {(FORMAT, VERSION)}")
        about = checked(cls, values)
        if about.count < 0 or not VECTORS.fullmatch(about.vectors):
            raise ValueError(f"it has {about.count} vectors in {about.vectors!r}")
        return about

"""Keep an encoded training set on disk, so that training never runs a VAE or a text encoder.

Layout of a set's folder:
    set.json                  what the set is made of, and every shard's SHA-256; replaced whole, so it is the commit
    videos/<key>.safetensors  "latents" (W, 16, T, h, w) and perhaps "image_states" (W, V, S, D) of a video's windows
    captions/<key>.safetensors  "states" (L, D) and "pooled" (P,) of one caption
A key hashes all that the tensors are made from (file content, size, models ...), so a shard is right or absent: a
killed build continues from what is there, an unchanged video is not encoded again, and a new caption encodes text
alone. A shard whose bytes have changed is made again by a build, and refused by a training. Shards that the finished
``set.json`` does not name are removed.
"""

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..store.disk import disk_errors
from ..store.fields import checked
from ..store.files import file_sha256, path_inside, read_json, remove_file, write_text
from .dataset_checks import checked_set, is_key
from .shards import ROOMS, shard_name

FORMAT, VERSION = "magic141-training-set", 3
MANIFEST = "set.json"


@dataclass(frozen=True)
class SetCut:
    """How the videos of a set are cut into windows, which do not overlap.

    width, height: in pixels. num_frames: of a window, 4n + 1. fps: of the windows. max_windows: of one video, 0 for
    all. with_image_states: whether the VLM looks at every window, see ``frames_seen``.
    """

    width: int
    height: int
    num_frames: int
    fps: float
    max_windows: int
    with_image_states: bool


@dataclass(frozen=True)
class SetSettings(SetCut):
    """What all videos of a set share; another value means other tensors.

    vae, encoders: identities of the graphs that loaded the models (before version 3, digests of some of their weights).
    """

    vae: str
    encoders: str


@dataclass(frozen=True)
class SetVideo:
    """A video of the set: its file, the size of its picture (source_*), its shard and the shards of its captions."""

    path: str
    size: int
    mtime_ns: int
    sha256: str
    key: str
    num_windows: int
    source_width: int
    source_height: int
    captions: tuple[str, ...]
    caption_keys: tuple[str, ...]


@dataclass(frozen=True)
class TrainingSet:
    """A training set as its ``set.json`` says.

    folder: the videos' folder, as the caller names it. null_key: the empty prompt's caption shard. complete: False
    while a build is under way or was interrupted. checksums: SHA-256 of shards, by ``shard_name``. version: of the
    format; sets of version 1 have no checksums, and the VLM saw first frames alone.
    """

    directory: Path
    folder: str
    settings: SetSettings
    null_key: str
    videos: tuple[SetVideo, ...] = ()
    complete: bool = False
    skipped: tuple[tuple[str, str], ...] = field(default=(), compare=False)
    checksums: Mapping[str, str] = field(default_factory=dict, compare=False)
    version: int = field(default=VERSION, compare=False)

    @classmethod
    def open(cls, directory: Path) -> "TrainingSet":
        """Read a set's ``set.json``.

        Raises:
            FileNotFoundError: there is no such set.
            ValueError: it is damaged or of another version.
        """
        try:
            stored = read_json(directory / MANIFEST)
            if stored["format"] != FORMAT or stored["version"] not in range(1, VERSION + 1):
                raise ValueError(
                    f"{stored['format']} version {stored['version']}, expected {FORMAT} version {VERSION}"
                )
            return checked_set(
                cls(
                    directory,
                    folder=stored["folder"],
                    settings=checked(SetSettings, stored["settings"]),
                    null_key=stored["null_key"],
                    videos=tuple(checked(SetVideo, video) for video in stored["videos"]),
                    complete=stored["complete"],
                    skipped=tuple((path, reason) for path, reason in stored["skipped"]),
                    checksums=stored["checksums"] if stored["version"] > 1 else {},
                    version=stored["version"],
                )
            )
        except FileNotFoundError:
            raise FileNotFoundError(
                f"There is no training set '{directory.name}'. Run Build Training Set with this name first."
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"The training set '{directory.name}' is damaged ({error}). Build it again with 'replace' on; what can "
                "be used of it is kept."
            ) from None

    def __len__(self) -> int:
        return len(self.windows)

    @cached_property
    def windows(self) -> list[tuple[SetVideo, int]]:
        """Every window: its video and its number there."""
        return [(video, number) for video in self.videos for number in range(video.num_windows)]

    def shard_names(self) -> set[str]:
        """Return the names of all shards that the set is made of."""
        captions = {self.null_key, *(key for video in self.videos for key in video.caption_keys)}
        videos = {shard_name("videos", video.key) for video in self.videos}
        return videos | {shard_name("captions", key) for key in captions}

    def content(self) -> str:
        """Return a digest of what can be learned from the set: videos, captions, how they were cut and encoded."""
        videos = [(video.key, video.num_windows, video.caption_keys) for video in self.videos]
        text = json.dumps([asdict(self.settings), self.null_key, videos])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def commit(self) -> None:
        """Write ``set.json`` in one step; of a complete set, remove the shards that it does not name."""
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "folder": self.folder,
            "settings": asdict(self.settings),
            "null_key": self.null_key,
            "complete": self.complete,
            "skipped": self.skipped,
            "checksums": {
                name: self.checksums[name] for name in sorted(self.shard_names() & {*self.checksums})
            },
            "videos": [asdict(video) for video in self.videos],
        }
        with disk_errors(self.directory):
            write_text(self.directory / MANIFEST, json.dumps(manifest, indent=1))
        if self.complete:
            self._remove_unnamed()

    def load_video(self, video: SetVideo) -> dict[str, Tensor]:
        """Return the tensors of a video's windows."""
        return self._load("videos", video.key)

    def load_caption(self, key: str) -> dict[str, Tensor]:
        """Return the states of a caption."""
        return self._load("captions", key)

    def _load(self, room: str, key: str) -> dict[str, Tensor]:
        name = shard_name(room, key)
        try:
            path = path_inside(self.directory, name)
            if not path.is_file():
                raise FileNotFoundError("there is no such file")
            if self.version > 1 and name not in self._verified:
                if file_sha256(path) != self.checksums.get(name):
                    raise ValueError("its content is not what was written")
                self._verified.add(name)
            return load_file(path)
        except (OSError, ValueError, SafetensorError) as error:
            raise ValueError(
                f"The training set '{self.directory.name}' lacks {name}, or it is damaged ({error}). "
                "Run Build Training Set again; only what is missing is encoded."
            ) from None

    @cached_property
    def _verified(self) -> set[str]:
        """Names of the shards whose checksum has been found right."""
        return set()

    def _remove_unnamed(self) -> None:
        named = self.shard_names()
        for room in ROOMS:
            for path in (self.directory / room).glob("*.safetensors"):
                if is_key(path.stem) and shard_name(room, path.stem) not in named:
                    with contextlib.suppress(OSError):  # still mapped by a reader (Windows): the next build
                        remove_file(path)

"""Keep an encoded training set on disk, so that training never runs a VAE or a text encoder.

Layout of a set's folder:
    set.json                  what the set is made of; replaced whole, so it is the commit
    videos/<key>.safetensors  "latents" (W, 16, T, h, w) and perhaps "image_states" (W, S, D) of one video's windows
    captions/<key>.safetensors  "states" (L, D) and "pooled" (P,) of one caption
A key hashes all that the tensors are made from (file content, size, models ...), so a shard is right or absent: a
build that was killed goes on with what lies there, an unchanged video costs nothing, and a new caption encodes text
alone. Shards that the finished ``set.json`` does not name are removed.
"""

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..store.directory_lock import DirectoryLock
from ..store.fields import checked
from ..store.files import (
    atomic_file,
    disk_errors,
    make_subfolder,
    path_inside,
    read_json,
    remove_parts,
    write_text,
)
from .dataset_checks import checked_set, is_key

FORMAT, VERSION = "magic141-training-set", 1
MANIFEST = "set.json"
ROOMS = ("videos", "captions")


@dataclass(frozen=True)
class SetSettings:
    """What all videos of a set share; another value means other tensors.

    width, height: in pixels. num_frames: of a window, 4n + 1. fps: the rate windows are cut at. max_windows: of one
    video, 0 for all. with_image_states: whether the VLM has looked at the first frame of every window. vae,
    encoders: fingerprints of the models.
    """

    width: int
    height: int
    num_frames: int
    fps: float
    max_windows: int
    with_image_states: bool
    vae: str
    encoders: str


@dataclass(frozen=True)
class SetVideo:
    """A video of the set: its file, its shard and the shards of its captions; source_* as the file had them."""

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
    while a build is under way or was interrupted.
    """

    directory: Path
    folder: str
    settings: SetSettings
    null_key: str
    videos: tuple[SetVideo, ...] = ()
    complete: bool = False
    skipped: tuple[tuple[str, str], ...] = field(default=(), compare=False)

    @classmethod
    def open(cls, directory: Path) -> "TrainingSet":
        """Read a set's ``set.json``.

        Raises:
            FileNotFoundError: there is no such set.
            ValueError: it is damaged or of another version.
        """
        try:
            found = read_json(directory / MANIFEST)
            if (found["format"], found["version"]) != (FORMAT, VERSION):
                raise ValueError(
                    f"{found['format']} version {found['version']}, expected {FORMAT} version {VERSION}"
                )
            return checked_set(
                cls(
                    directory,
                    folder=found["folder"],
                    settings=checked(SetSettings, found["settings"]),
                    null_key=found["null_key"],
                    videos=tuple(checked(SetVideo, video) for video in found["videos"]),
                    complete=found["complete"],
                    skipped=tuple((path, reason) for path, reason in found["skipped"]),
                )
            )
        except FileNotFoundError:
            raise FileNotFoundError(
                f"There is no training set '{directory.name}'. Run Build Training Set with this name first."
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"The training set '{directory.name}' is damaged ({error}). Build it again with 'rebuild' on; what can "
                "be used of it is kept."
            ) from None

    def __len__(self) -> int:
        return len(self.windows)

    @cached_property
    def windows(self) -> list[tuple[SetVideo, int]]:
        """Every window: its video and its number there."""
        return [(video, number) for video in self.videos for number in range(video.num_windows)]

    def commit(self) -> None:
        """Make this the set in one step; a complete one leaves no other shard behind."""
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "folder": self.folder,
            "settings": asdict(self.settings),
            "null_key": self.null_key,
            "complete": self.complete,
            "skipped": self.skipped,
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
        try:
            path = path_inside(self.directory, f"{room}/{key}.safetensors")
            if not path.is_file():
                raise FileNotFoundError("there is no such file")
            return load_file(path)
        except (OSError, ValueError, SafetensorError) as error:
            raise ValueError(
                f"The training set '{self.directory.name}' lacks {room}/{key}.safetensors, or it is damaged ({error}). "
                "Run Build Training Set again; only what is missing is encoded."
            ) from None

    def _remove_unnamed(self) -> None:
        named = {
            "videos": {video.key for video in self.videos},
            "captions": {self.null_key, *(key for video in self.videos for key in video.caption_keys)},
        }
        for room, keys in named.items():
            for path in (self.directory / room).glob("*.safetensors"):
                if is_key(path.stem) and path.stem not in keys:
                    with contextlib.suppress(OSError):  # still mapped by a reader (Windows): the next build
                        path.unlink()


class VideoFacts(NamedTuple):
    """What a video's shard says: its windows and the size of its source in pixels."""

    num_windows: int
    width: int
    height: int


class ShardStore:
    """The shards of a set, for the build: ask for one, and it is made if it is not there yet."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def holds_caption(self, key: str) -> bool:
        """Say whether a caption's shard is there and whole."""
        return self._header("captions", key) is not None

    def video_facts(self, key: str) -> VideoFacts | None:
        """Return what a video's shard says of it, or None where there is no whole shard."""
        header = self._header("videos", key)
        if header is None:
            return None
        num_windows, facts = header
        sizes = [facts.get(name, "") for name in ("width", "height")]
        if num_windows < 1 or not all(re.fullmatch("[1-9][0-9]{0,5}", size) for size in sizes):
            self._path("videos", key).unlink()
            return None
        return VideoFacts(num_windows, int(sizes[0]), int(sizes[1]))

    def _header(self, room: str, key: str) -> tuple[int, dict[str, str]] | None:
        """Return the rows and the notes of a shard; a damaged one is removed."""
        path = self._path(room, key)
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                first = "latents" if room == "videos" else "states"
                return file.get_slice(first).get_shape()[0], file.metadata() or {}
        except (SafetensorError, IndexError):  # IndexError: a single number
            path.unlink()
            return None

    def save_caption(self, key: str, states: Tensor, pooled: Tensor) -> None:
        """Write a caption's shard: states (L, D), pooled (P,)."""
        self._save("captions", key, {"states": states, "pooled": pooled}, {})

    def save_video(self, key: str, tensors: Mapping[str, Tensor], facts: VideoFacts) -> None:
        """Write a video's shard: "latents" (W, 16, T, h, w) and perhaps "image_states" (W, S, D)."""
        self._save("videos", key, tensors, {"width": str(facts.width), "height": str(facts.height)})

    def _save(self, room: str, key: str, tensors: Mapping[str, Tensor], notes: dict[str, str]) -> None:
        with atomic_file(self._path(room, key)) as temporary:
            save_file({name: compact(tensor) for name, tensor in tensors.items()}, temporary, notes)

    def _path(self, room: str, key: str) -> Path:
        return self.directory / room / f"{key}.safetensors"


@contextlib.contextmanager
def locked_directory(directory: Path) -> Iterator[None]:
    """Hold a set's folder for one build; left-overs of a killed one are removed.

    Raises:
        DirectoryLocked: another build holds it.
    """
    with disk_errors(directory):
        for room in ROOMS:
            make_subfolder(directory, room)
    lock = DirectoryLock(directory)
    lock.acquire()
    try:
        remove_parts(directory)
        yield
    finally:
        lock.release()


def compact(tensor: Tensor) -> Tensor:
    """Return a tensor in half the bytes: float16, or bfloat16 where a value would not fit."""
    tensor = tensor.detach().cpu().float()
    fits = not tensor.numel() or float(tensor.abs().max()) <= torch.finfo(torch.float16).max
    return tensor.to(torch.float16 if fits else torch.bfloat16).contiguous()

"""The shards of a training set on disk: written whole, checked before they are reused, locked during a build."""

import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..dit.stream import save_tensors
from ..sizes import FRAMES_PER_LATENT, num_latent_frames
from ..store.directory_lock import DirectoryLock
from ..store.disk import disk_errors
from ..store.files import atomic_file, file_sha256, make_subfolder, remove_file, remove_parts

ROOMS = ("videos", "captions")
MOST_KNOWN = 3
"""Most leading latent frames that may be known in training; see ``frames_seen``."""


def shard_name(room: str, key: str) -> str:
    """Return a shard's file name inside its set."""
    return f"{room}/{key}.safetensors"


def frames_seen(num_frames: int) -> list[int]:
    """Return which frames of a window the VLM sees: for 1, 2 ... known latent frames, the last known one.

    A window of n latent frames has at most n - 1 known ones, so that something is left to learn.
    """
    num_latents = num_latent_frames(num_frames)
    return [FRAMES_PER_LATENT * known for known in range(max(1, min(MOST_KNOWN, num_latents - 1)))]


class ShardFacts(NamedTuple):
    """What a video's shard says: its windows and the size of its source in pixels."""

    num_windows: int
    width: int
    height: int


class ShardStore:
    """Finds which shards of a set under construction are there and whole, and writes the others.

    Args:
        known: checksums of shards, where they are known.

    Attributes:
        checksums: SHA-256 of the shards that were asked for or made, by ``shard_name``.
    """

    def __init__(self, directory: Path, known: Mapping[str, str] | None = None) -> None:
        self.directory, self._known = directory, known or {}
        self.checksums: dict[str, str] = {}

    def holds_caption(self, key: str) -> bool:
        """Say whether a caption's shard is there and whole."""
        return self._header("captions", key) is not None

    def video_facts(self, key: str) -> ShardFacts | None:
        """Return what a video's shard says of it, or None where there is no whole shard."""
        header = self._header("videos", key)
        if header is None:
            return None
        num_windows, facts = header
        sizes = [facts.get(name, "") for name in ("width", "height")]
        if num_windows < 1 or not all(re.fullmatch("[1-9][0-9]{0,5}", size) for size in sizes):
            remove_file(self._path("videos", key))
            return None
        return ShardFacts(num_windows, int(sizes[0]), int(sizes[1]))

    def _header(self, room: str, key: str) -> tuple[int, dict[str, str]] | None:
        """Return the rows and the notes of a shard; a damaged one is removed."""
        path = self._path(room, key)
        if not path.is_file():
            return None
        try:
            self._check(shard_name(room, key), path)
            with safe_open(path, framework="pt") as file:
                first = "latents" if room == "videos" else "states"
                return file.get_slice(first).get_shape()[0], file.metadata() or {}
        except (SafetensorError, IndexError, ValueError):  # IndexError: a single number
            remove_file(path)
            return None

    def _check(self, name: str, path: Path) -> None:
        """Note a shard's checksum, once.

        Raises:
            ValueError: it is not the one that is known.
        """
        if name not in self.checksums:
            checksum = file_sha256(path)
            if self._known.get(name, checksum) != checksum:
                raise ValueError(f"{name} is not what was written")
            self.checksums[name] = checksum

    def save_caption(self, key: str, states: Tensor, pooled: Tensor) -> None:
        """Write a caption's shard: states (L, D), pooled (P,)."""
        self._save("captions", key, {"states": states, "pooled": pooled}, {})

    def save_video(self, key: str, tensors: Mapping[str, Tensor], facts: ShardFacts) -> None:
        """Write a video's shard: "latents" (W, 16, T, h, w), perhaps "image_states" (W, V, S, D) of ``frames_seen``."""
        self._save("videos", key, tensors, {"width": str(facts.width), "height": str(facts.height)})

    def _save(self, room: str, key: str, tensors: Mapping[str, Tensor], notes: dict[str, str]) -> None:
        with atomic_file(self._path(room, key)) as temporary:
            save_tensors(temporary, {name: compact(tensor) for name, tensor in tensors.items()}, notes)
            self.checksums[shard_name(room, key)] = file_sha256(temporary)

    def _path(self, room: str, key: str) -> Path:
        return self.directory / shard_name(room, key)


@contextlib.contextmanager
def locked_directory(directory: Path) -> Iterator[None]:
    """Lock a set's folder for one build; what a killed build left half written is removed.

    Raises:
        DirectoryLocked: another build holds it.
    """
    with disk_errors(directory):
        for room in ROOMS:
            make_subfolder(directory, room)
    with DirectoryLock(directory):
        remove_parts(directory)
        yield


def compact(tensor: Tensor) -> Tensor:
    """Return a tensor in half the bytes: float16, or bfloat16 where a value would not fit."""
    tensor = tensor.detach().cpu().float()
    fits_float16 = not tensor.numel() or float(tensor.abs().max()) <= torch.finfo(torch.float16).max
    return tensor.to(torch.float16 if fits_float16 else torch.bfloat16).contiguous()

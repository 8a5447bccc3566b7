"""Check the values of a training set before they are used: its ``set.json`` may come from anyone."""

import re
from typing import TYPE_CHECKING, Any

from ..store.files import is_relative_name

if TYPE_CHECKING:
    from .dataset import SetVideo, TrainingSet

MOST_WINDOWS = 2_000_000
_KEY = re.compile("[0-9a-f]{32}")
_CHECKSUM = re.compile("[0-9a-f]{64}")


def is_key(key: Any) -> bool:
    """Say whether a value can be the name of a shard."""
    return isinstance(key, str) and _KEY.fullmatch(key) is not None


def checked_set(training_set: "TrainingSet") -> "TrainingSet":
    """Return a set that was read from disk if its values are possible.

    Raises:
        ValueError: says which are not.
    """
    texts = [training_set.folder, *(text for pair in training_set.skipped for text in pair)]
    if not all(isinstance(text, str) for text in texts) or not isinstance(training_set.complete, bool):
        raise ValueError("folder, complete or skipped is of another type")
    s = training_set.settings
    if min(s.width, s.height, s.num_frames) < 1 or s.fps <= 0:
        raise ValueError(f"its windows are {s.width} x {s.height} px, {s.num_frames} frames at {s.fps}")
    _check_key(training_set.null_key)
    _check_checksums(training_set.checksums)
    for video in training_set.videos:
        _check_video(video)
    if sum(video.num_windows for video in training_set.videos) > MOST_WINDOWS:
        raise ValueError(f"it has more than {MOST_WINDOWS} windows")
    return training_set


def _check_video(video: "SetVideo") -> None:
    for key in (video.key, *video.caption_keys):
        _check_key(key)
    if (
        not is_relative_name(video.path)
        or min(video.num_windows, video.source_width, video.source_height) < 1
    ):
        raise ValueError(f"{video.path!r} is not the entry of a video")
    if not video.captions or len(video.captions) != len(video.caption_keys):
        raise ValueError(
            f"{video.path} has {len(video.captions)} captions, {len(video.caption_keys)} encoded"
        )


def _check_checksums(checksums: Any) -> None:
    if not isinstance(checksums, dict):
        raise ValueError("its checksums are not a table of names and digests")
    for name, checksum in checksums.items():
        if not isinstance(checksum, str) or _CHECKSUM.fullmatch(checksum) is None:
            raise ValueError(f"the checksum of {name} is {checksum!r}")


def _check_key(key: Any) -> None:
    if not is_key(key):
        raise ValueError(f"{key!r} is not the name of one of its files")

"""A folder of captioned videos: find them, read their captions, cut them into training windows.

A caption lies beside its video (``cat.mp4``, ``cat.txt``) or in one ``.jsonl`` at the top of the folder with lines
``{"video": "cat.mp4", "caption": "a cat jumps"}``; several lines of one video are several captions, and so is a list
in place of one. Whatever cannot be used is skipped and reported; only a folder in which nothing is left is refused.
"""

import codecs
import json
import os
import re
import stat
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from ..encoders.context import check_prompt
from ..store.cancel import until_canceled
from ..store.files import stays_inside
from ..store.video_source import frames_at_rate, probe_video
from ..store.walk import PictureFile, is_macos_sidecar, walk_files
from .dataset import SetCut

SUFFIXES = frozenset({".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg", ".gif", ".ts"})
SHOWN = 20

Skipped = list[tuple[str, str]]
"""What was left out of a training set, and why: (path or place, reason)."""


class VideoUnusable(ValueError):
    """A video cannot be trained on; the message says why, without its name."""


@dataclass(frozen=True)
class CaptionedVideo:
    """A video file and what its captions say."""

    file: PictureFile
    captions: tuple[str, ...]


def skipped_lines(skipped: Sequence[tuple[str, str]]) -> list[str]:
    """Return one line for each thing left out, the first twenty."""
    lines = [f"skipped {path}: {reason}" for path, reason in skipped[:SHOWN]]
    more = len(skipped) - SHOWN
    return lines + ([f"... and {more} more skipped."] if more > 0 else [])


def is_video_name(name: str) -> bool:
    """Say whether a file of this name is taken for a video."""
    return os.path.splitext(name)[1].lower() in SUFFIXES


def find_videos(folder: Path, label: str, skipped: Skipped) -> list[CaptionedVideo]:
    """Return every video below a folder that has a caption, sorted by path.

    Args:
        label: what a message calls the folder.

    Raises:
        ValueError: no video, several JSONL files, or no video has a caption.
    """
    files = list(walk_files(folder, is_video_name, lambda path, reason: skipped.append((path, reason))))
    if not files:
        raise ValueError(
            f"There is no video in '{label}' or below it. Put .mp4, .mov, .mkv or .webm files there, each with a text "
            "file of the same name beside it."
        )
    listed = read_jsonl(folder, label, {file.path for file in files}, skipped)
    captioned = []
    for file in until_canceled(files):
        captions = listed.get(file.path) or _caption_beside(folder, file.path, skipped)
        if captions:
            captioned.append(CaptionedVideo(file, tuple(captions)))
    if not captioned:
        reasons = "\n".join(skipped_lines(skipped))
        raise ValueError(
            f"None of the {len(files)} videos in '{label}' has a caption that can be used. Put a text file of the same "
            'name beside each video (cat.mp4, cat.txt), or one .jsonl file with lines {"video": "cat.mp4", "caption": '
            f'"a cat jumps"}}.\n{reasons}'
        )
    return captioned


def read_jsonl(folder: Path, label: str, names: set[str], skipped: Skipped) -> dict[str, list[str]]:
    """Return the captions of the folder's JSONL file by video; empty where there is none.

    Raises:
        ValueError: there are several.
    """
    paths = sorted(path for path in folder.glob("*.jsonl") if not is_macos_sidecar(path.name))
    if len(paths) > 1:
        named = ", ".join(path.name for path in paths)
        raise ValueError(
            f"'{label}' holds several caption lists: {named}. Keep one, or keep each with its own videos."
        )
    captions: dict[str, list[str]] = {}
    spellings = {_composed(name): name for name in sorted(names)} | {name: name for name in names}
    for path in paths:
        try:
            text = _read_text(folder, path, errors="surrogateescape")
        except (OSError, ValueError) as error:
            skipped.append((path.name, f"it cannot be read: {_without_path(str(error), path)}"))
            continue
        for number, line in enumerate(re.split("\r\n|\r|\n", text), 1):  # splitlines cuts captions at U+2028
            if line.strip():
                _take_line(line, f"{path.name} line {number}", spellings, captions, skipped)
    return captions


def _take_line(
    line: str, place: str, names: dict[str, str], captions: dict[str, list[str]], skipped: Skipped
) -> None:
    if any("\udc80" <= letter <= "\udcff" for letter in line):
        skipped.append((place, "it is not UTF-8 text; save the list as UTF-8"))
        return
    try:
        entry = json.loads(line)
        video, caption = entry["video"], entry["caption"]
        name = PurePosixPath(video.replace("\\", "/")).as_posix()
        name = names.get(name) or names.get(_composed(name))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        reason = 'not of the form {"video": "cat.mp4", "caption": "a cat jumps"}; mend or remove the line'
        skipped.append((place, reason))
        return
    if name is None:
        skipped.append((place, f"there is no video {video!r} in this folder"))
        return
    for text in caption if isinstance(caption, list) and caption else [caption]:
        if (reason := caption_fault(text)) is not None:
            skipped.append((place, reason))
        else:
            captions.setdefault(name, []).append(one_line(str(text)))


def _composed(name: str) -> str:
    """Return a name as most systems write it; macOS writes accents as letters of their own."""
    return unicodedata.normalize("NFC", name)


def _read_text(folder: Path, path: Path, *, errors: str = "strict") -> str:
    """Return the text of a file in a folder of videos.

    Raises:
        ValueError: it is a link that leads out of the folder, no regular file, or no UTF-8.
    """
    if not stays_inside(folder, path):
        raise ValueError("a symbolic link that leaves the folder is not read; put the text itself there")
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("it is not a regular file")
    data = path.read_bytes()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # what Windows calls Unicode text
        return data.decode("utf-16", errors="replace")
    return data.decode("utf-8-sig", errors=errors)


def _caption_beside(folder: Path, name: str, skipped: Skipped) -> list[str]:
    text = (folder / name).with_suffix(".txt")
    if not text.exists():
        spelled = (text.with_name(unicodedata.normalize(form, text.name)) for form in ("NFC", "NFD"))
        text = next((path for path in spelled if path.exists()), text)
    try:
        caption = _read_text(folder, text)
    except FileNotFoundError:
        reason = f"has no caption: neither {text.name} beside it nor a usable line in a .jsonl"
    except UnicodeDecodeError as error:
        reason = f"its caption {text.name} cannot be read ({error}); save it as UTF-8 text"
    except (OSError, ValueError) as error:
        reason = f"its caption {text.name} cannot be read: {_without_path(str(error), text)}"
    else:
        if (fault := caption_fault(caption)) is None:
            return [one_line(caption)]
        reason = f"{text.name}: {fault}"
    skipped.append((name, reason))
    return []


def caption_fault(caption: Any) -> str | None:
    """Say what is wrong with a caption; None if nothing is."""
    if not isinstance(caption, str) or not caption.strip():
        return "the caption is empty"
    try:
        check_prompt(caption, "caption")
    except ValueError as error:
        return str(error)
    return None


def one_line(text: str) -> str:
    """Return text with every run of blanks and line breaks as one space."""
    return " ".join(text.split())


def read_windows(path: Path, cut: SetCut) -> Iterator[Tensor]:
    """Yield a video's windows in order, none overlapping: (num_frames, H, W, 3) in [0, 1].

    Only one window is in memory. A rest at the end that is too short for a window is not used.

    Raises:
        VideoUnusable: it cannot be read, holds sound only, or is too short for one window.
    """
    frames: list[Tensor] = []
    num_windows = num_read = 0
    try:
        probe_video(path)
        for frame in frames_at_rate(path, cut.fps):
            num_read += 1
            frames.append(frame)
            if len(frames) == cut.num_frames:
                yield torch.stack(frames)
                frames, num_windows = [], num_windows + 1
                if num_windows == cut.max_windows:
                    return
    except (OSError, ValueError) as error:
        raise VideoUnusable(_without_path(str(error), path)) from error
    if num_windows == 0:
        raise VideoUnusable(_too_short(num_read, cut))


def _without_path(message: str, path: Path) -> str:
    return message.replace(f": '{path}'", "").replace(str(path), "it")


def _too_short(num_read: int, cut: SetCut) -> str:
    if num_read <= 1:
        return "it is a still picture: it has a single frame, and nothing moves in it"
    longest = (num_read - 1) // 4 * 4 + 1
    hint = f", or set num_frames to {longest} or less" if longest > 1 else ""
    return (
        f"it has {num_read} frames at {cut.fps:g} a second and a window needs {cut.num_frames}. "
        f"Use a longer video{hint}"
    )

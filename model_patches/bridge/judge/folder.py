"""Judge folders of videos: a line of JSON for each video, kept for the next run, and distances between folders."""

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...judge.folder_report import FolderResult, read_rows
from ...judge.sets import distance_with_interval
from ...store.cancel import Progress, no_progress, until_canceled
from ...store.disk import disk_errors
from ...store.pictures import SUFFIXES as PICTURES
from ...store.pictures import decode, read_bytes, to_tensor
from ...store.walk import walk_files
from ...training.videos import SUFFIXES as VIDEOS
from ..folders import folder_label, resolve_folder
from .clips import open_video
from .models import ClipInputs, Models, frames_on
from .run import judge_clip

DEFAULT_FPS = 24.0


@dataclass(frozen=True)
class Folder:
    """A row of the table.

    name: for people. label: its name in the file of results. files: its videos, sorted, relative to ``path``.
    """

    name: str
    label: str
    path: Path
    files: tuple[str, ...]


def read_folders(text: str) -> list[Folder]:
    """Return the folders that a text names, one a line, "folder" or "name = folder".

    Raises:
        ValueError: no line names a folder, or one may not be read or holds no video.
        FileNotFoundError: one does not exist.
    """
    lines = [line.rpartition("=") for line in text.splitlines() if line.strip()]
    if not lines:
        raise ValueError("folders is empty. Name one folder a line, for example output/teacher.")
    paths = [resolve_folder(folder) for _, _, folder in lines]
    return [
        open_folder(name.strip() or folder.strip(), folder_label(path), path)
        for (name, _, folder), path in zip(lines, paths, strict=True)
    ]


def open_folder(name: str, label: str, path: Path) -> Folder:
    """List the videos of a folder.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it holds no video.
    """
    if not path.is_dir():
        raise FileNotFoundError(f"The folder '{name}' does not exist. Check its spelling.")
    videos = walk_files(path, lambda name: os.path.splitext(name)[1].lower() in VIDEOS)
    files = tuple(video.path for video in videos)
    if not files:
        raise ValueError(f"The folder '{name}' holds no video ({', '.join(sorted(VIDEOS))}).")
    return Folder(name, label, path, files)


def judge_folder(folder: Folder, results: Path, models: Models, *, progress: Progress) -> FolderResult:
    """Judge each video of a folder and append its row to a file; videos that have a row are not judged again.

    A picture and a text beside a video (cat.mp4, cat.png, cat.txt) are its start picture and prompt.
    """
    known = {row["key"]: row for row in read_rows(results)}
    rows = []
    for done, file in enumerate(until_canceled(folder.files)):
        progress(done, len(folder.files))
        video = folder.path / file
        picture, prompt = _start_and_prompt(video)
        stamps = [_stamp(path) for path in (video, picture, prompt) if path is not None]
        key = " | ".join([f"{folder.label}/{file}", *stamps, " ".join(models.available())])
        if key not in known:
            known[key] = {"key": key} | _row(video, picture, prompt, models)
            _append(results, known[key])
        rows.append(known[key])
    progress(len(folder.files), len(folder.files))
    return FolderResult(folder.name, rows)


def _stamp(path: Path) -> str:
    return f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}"


def _start_and_prompt(video: Path) -> tuple[Path | None, Path | None]:
    """Return the files of the start picture and the prompt of a video, None where there is none.

    They have the video's name, or that name without the number that Save Video appends: cat.png for cat_00001_.mp4.
    """
    names = dict.fromkeys([video.stem, re.sub(r"_\d+_?$", "", video.stem)])

    def first(endings: Iterable[str]) -> Path | None:
        paths = (video.with_name(name + ending) for name in names for ending in endings)
        return next((path for path in paths if path != video and path.is_file()), None)

    return first(sorted(PICTURES)), first([".txt"])


def _row(video: Path, picture: Path | None, prompt_file: Path | None, models: Models) -> dict:
    try:
        start = None if picture is None else to_tensor(decode(read_bytes(picture))[0])
        prompt = "" if prompt_file is None else prompt_file.read_text(encoding="utf-8-sig")
        clip = open_video(video, DEFAULT_FPS)
        return judge_clip(clip, ClipInputs(start, prompt), models, progress=no_progress).to_json(curves=False)
    except (ValueError, OSError) as error:
        return {"values": {}, "error": str(error)}


def _append(results: Path, row: dict) -> None:
    """Append a row as a line of its own, after whatever half a line a killed run left."""
    with disk_errors(results.parent):
        results.parent.mkdir(parents=True, exist_ok=True)
        with results.open("a", encoding="utf-8") as file:
            file.write("\n" * bool(file.tell()) + json.dumps(row))


def compare_folders(
    folder: Folder, reference: Folder, models: Models, *, progress: Progress
) -> tuple[dict[str, dict[str, float]], list[str]]:
    """Return FID and FVD with their intervals, and notes on what is missing."""
    distances, notes = {}, []
    for name, model in (("FID", "inception"), ("FVD", "videomae")):
        try:
            sets = [_features(each, model, models, notes, progress) for each in (reference, folder)]
            distances[name] = distance_with_interval(*sets)
        except (FileNotFoundError, ValueError) as error:
            notes.append(f"{name} is not measured. {error}")
    return distances, notes


def _features(folder: Folder, model: str, models: Models, notes: list[str], progress: Progress) -> Tensor:
    """Return the features of every video of a folder that can be read, (videos, K, D)."""
    patcher = models.patcher(model)
    if (folder.label, model) in models.features:
        return models.features[folder.label, model]
    features = []
    for done, file in enumerate(until_canceled(folder.files)):
        progress(done, len(folder.files))
        try:
            frames = _evenly_spaced(folder.path / file, patcher.model.num_frames)
        except ValueError as error:
            notes.append(f"{folder.name}: {file} is left out of FID and FVD: {error}")
            continue
        with torch.no_grad():
            features.append(patcher.model(frames_on(patcher, frames)).float().cpu())
    if len(features) < 2:
        raise ValueError(
            f"{folder.name} has {len(features)} videos that can be read; it needs two, and 200 to say much."
        )
    models.features[folder.label, model] = torch.stack(features)
    return models.features[folder.label, model]


def _evenly_spaced(video: Path, count: int) -> Tensor:
    """Return ``count`` evenly spaced frames (count, H, W, 3) uint8; a few times as many are in memory at most."""
    kept, every = [], 1
    for number, frame in enumerate(until_canceled(open_video(video, DEFAULT_FPS).frames())):
        if number % every == 0:
            kept.append(frame)
        if len(kept) == 4 * count:
            kept, every = kept[::2], 2 * every
    if not kept:
        raise ValueError(f"{video.name} has no frames.")
    return torch.stack([kept[round(float(i))] for i in torch.linspace(0, len(kept) - 1, count)])

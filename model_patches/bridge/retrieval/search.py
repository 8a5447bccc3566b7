"""Build and query image indexes: folders by name, the host's progress bar and cancel button."""

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...retrieval import legacy
from ...retrieval.build import Report, build_index
from ...retrieval.index import ImageIndex
from ...retrieval.records import Model, Row
from ...retrieval.search import diverse_order
from ...sizes import resize_cover_crop
from ...store.cancel import until_canceled
from ...store.directory_lock import DirectoryLock
from ...store.disk import disk_errors
from ...store.files import path_inside
from ...store.pictures import PictureError, read_bytes, to_tensor
from ...store.pictures import decode as decode_picture
from ..folders import folder_label, index_directory, resolve_folder
from ..progress import host_progress
from .embedders import PictureEmbedder, identify

MIN_CANDIDATES = 64
MAX_NOTES = 20


@dataclass(frozen=True)
class Retrieved:
    """Pictures that were found, best first.

    Attributes:
        images: (K, H, W, 3) in [0, 1]; all resized and center-cropped to the size of the first.
        scores: cosine of each with the query.
        paths: of each, with the folder's name first.
        report: for people.
    """

    images: Tensor
    scores: list[float]
    paths: list[str]
    report: str


def update_index(
    name: str, folder_name: str, embedder: PictureEmbedder, *, batch_size: int, rebuild: bool
) -> tuple[ImageIndex, Report]:
    """Bring the index of a folder up to date, or build it.

    Raises:
        ValueError: the name, the folder or the batch size cannot be used, the index belongs to another folder or model,
            or another process is building it.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
    folder, directory = resolve_folder(folder_name), index_directory(name)
    with disk_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
    with DirectoryLock(directory):
        old = _open_or_start(directory, folder_label(folder), identify(embedder), rebuild)
        progress = host_progress("embedding pictures")
        return build_index(old, folder, embedder, batch_size=batch_size, on_progress=progress)


def _open_or_start(directory: Path, label: str, model: Model, rebuild: bool) -> ImageIndex:
    fresh = ImageIndex.empty(directory, folder=label, model=model)
    if rebuild:
        return fresh
    try:
        if legacy.is_old(directory):
            _convert(directory)
        old = ImageIndex.open(directory)
    except FileNotFoundError:
        return fresh
    if old.folder != label:
        raise ValueError(
            f"The index '{directory.name}' is of the folder '{old.folder}', not '{label}'. Give this folder's index "
            "another name, or turn on 'rebuild' to replace it."
        )
    _check_model(old, model)
    return old


def open_index(name: str, embedder: PictureEmbedder) -> ImageIndex:
    """Open an index to query it with a model.

    Raises:
        ValueError: another model made it, or it is empty or damaged.
        FileNotFoundError: there is none of this name.
    """
    directory = index_directory(name)
    if legacy.is_old(directory):
        with DirectoryLock(directory):
            _convert(directory)
    index = ImageIndex.open(directory)
    _check_model(index, identify(embedder))
    return index


def _check_model(index: ImageIndex, model: Model) -> None:
    if not index.model.same_as(model):
        raise ValueError(
            f"The index '{index.directory.name}' was made by another model: {index.model.name}, "
            f"{len(index.model.probe)} wide. This is {model.name}, {len(model.probe)} wide. Choose that model, give "
            "the index another name, or turn on 'rebuild' in Build Image Index to embed everything again."
        )


def _convert(directory: Path) -> None:
    logging.info("Magic141: the image index '%s' is of an older format; it is converted.", directory.name)
    legacy.convert(directory)


def find(index: ImageIndex, query: Tensor, *, k: int, threshold: float, diversity: float) -> Retrieved:
    """Return the k pictures nearest to a query that can still be read and reach a threshold.

    Args:
        index: what to search.
        query: (D,), length 1.
        k: how many at most.
        threshold: lowest cosine to accept.
        diversity: 0 takes the best k; values toward 1 prefer pictures that differ from each other.

    Raises:
        ValueError: k < 1, no picture reaches the threshold, or none that does can be read.
    """
    if k < 1:
        raise ValueError(f"count must be at least 1, got {k}.")
    folder = resolve_folder(index.folder)
    num_candidates, notes = max(MIN_CANDIDATES, 4 * k), []
    while True:
        scores, positions = index.search(query, k=num_candidates)
        _check_threshold(index, scores, positions, threshold)
        enough = int((scores >= threshold).sum())
        picked, notes = _take_readable(
            index, folder, scores[:enough], positions[:enough].tolist(), k, diversity
        )
        if len(picked) == k or enough < num_candidates or num_candidates >= len(index):
            break
        num_candidates *= 8
    if not picked:
        raise ValueError(
            f"None of the {enough} matches in '{index.folder}' can be read any more ({notes[0]}). "
            "Run Build Image Index again."
        )
    return _combine(index, picked, notes, k)


_Picked = tuple[Row, float, Tensor]


def _check_threshold(index: ImageIndex, scores: Tensor, positions: Tensor, threshold: float) -> None:
    if not len(scores):
        raise ValueError(f"The index of '{index.folder}' is empty. Run Build Image Index.")
    if float(scores[0]) < threshold:
        best = index.rows_at([int(positions[0])])[0]
        raise ValueError(
            f"Nothing in '{index.folder}' matches: the nearest of {len(index)} pictures, {best.path}, scores "
            f"{float(scores[0]):.3f}, below the threshold {threshold:.3f}. Add fitting pictures and rebuild, "
            "reword the prompt, or lower the threshold."
        )


def _take_readable(
    index: ImageIndex, folder: Path, scores: Tensor, positions: list[int], k: int, diversity: float
) -> tuple[list[_Picked], list[str]]:
    """Return the first k candidates that can be read, best first or diverse, and notes on those that cannot.

    All pictures have the size of the first.
    """
    order = list(range(len(positions)))
    if diversity:
        order = diverse_order(scores, index.vectors[positions], diversity=diversity)
    rows = index.rows_at(positions)
    picked: list[_Picked] = []
    notes: list[str] = []
    for i in until_canceled(order):
        if len(picked) == k:
            break
        try:
            image, note = _read(folder, rows[i])
        except PictureError as error:
            notes.append(f"skipped {rows[i].path}: {error}")
            continue
        if picked:  # here, so that only one picture of another size is in memory
            height, width = picked[0][2].shape[1:3]
            image = resize_cover_crop(image, width, height)
        picked.append((rows[i], float(scores[i]), image))
        notes += [f"{rows[i].path}: {note}"] if note else []
    return picked, notes


def _read(folder: Path, row: Row) -> tuple[Tensor, str]:
    try:
        path = path_inside(folder, row.path)
    except ValueError:
        raise PictureError("it now lies outside the indexed folder") from None
    data = read_bytes(path)
    if hashlib.sha256(data).hexdigest() != row.sha256:
        raise PictureError("it has changed since it was indexed; run Build Image Index again")
    image, note = decode_picture(data)
    return to_tensor(image), note


def _combine(index: ImageIndex, picked: list[_Picked], notes: list[str], k: int) -> Retrieved:
    images = torch.empty(len(picked), *picked[0][2].shape[1:])
    for image, (_, _, picture) in zip(images, until_canceled(picked), strict=True):
        image.copy_(picture[0])
    paths = [f"{index.folder}/{row.path}" for row, _, _ in picked]
    scores = [score for _, score, _ in picked]
    lines = [f"{score:.3f}  {path}" for score, path in zip(scores, paths, strict=True)]
    if len(picked) < k:
        lines.append(
            f"Only {len(picked)} of {k} asked for: the others score below the threshold or cannot be read."
        )
    if not index.about.complete:
        lines.append("The index is not complete: building it was interrupted. Run Build Image Index again.")
    if len(notes) > MAX_NOTES:
        notes = [*notes[:MAX_NOTES], f"... and {len(notes) - MAX_NOTES} more."]
    return Retrieved(images, scores, paths, "\n".join(lines + notes))

"""Build a training set: encode a folder of captioned videos with VAE, LLM, CLIP and VLM, once."""

import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from comfy.sd import VAE

from ...sizes import check_clip_size, nearest_bucket
from ...store.cancel import until_canceled
from ...store.files import file_sha256
from ...store.video_source import probe_video
from ...store.walk import listing_digest
from ...training.dataset import SetCut, SetSettings, SetVideo, TrainingSet
from ...training.dataset_report import set_report
from ...training.shards import ShardStore, locked_directory
from ...training.videos import (
    CaptionedVideo,
    Skipped,
    VideoUnusable,
    find_videos,
    is_video_name,
    skipped_lines,
)
from ..encoders.socket import Magic141Encoders
from ..folders import folder_label, named_directory, resolve_folder
from ..graph_identity import GraphIdentity, describe_unknown
from ..progress import host_progress
from ..vae import check_vae
from .encode import SetEncoder

CATEGORY = "magic141_training_sets"
COMMIT_SECONDS = 60.0
GRAPH_VERSION = 3
"""The first version whose sets record which graphs loaded their encoders and VAE."""


@dataclass(frozen=True)
class SetRequest(SetCut):
    """How to cut the videos of a set. bucket: family of sizes to choose from, or None."""

    bucket: str | None = None


@dataclass(frozen=True)
class SetModels:
    """The models that encode a set, and the identities of the graphs that loaded them."""

    encoders: Magic141Encoders
    vae: VAE
    encoders_graph: GraphIdentity
    vae_graph: GraphIdentity

    def notes(self) -> list[str]:
        """Return sentences on what is unknown about these graphs."""
        return [*describe_unknown(self.encoders_graph), *describe_unknown(self.vae_graph)]


def set_directory(name: str) -> Path:
    """Return where the training set of this name lives, or will live.

    Raises:
        ValueError: the name is not usable.
    """
    return named_directory(name, CATEGORY, "a training set")


def listing(folder_name: str) -> str:
    """Return a digest that changes when a video or a caption of a folder is added, removed or touched."""
    return listing_digest(
        resolve_folder(folder_name), lambda name: is_video_name(name) or name.endswith((".txt", ".jsonl"))
    )


def build_training_set(
    name: str,
    folder_name: str,
    models: SetModels,
    request: SetRequest,
    *,
    replace_other: bool = False,
) -> tuple[TrainingSet, str]:
    """Bring the training set of a folder up to date, or make it; return it and a report for people.

    Args:
        replace_other: give up a set of this name that was made of another folder or with other settings.

    Raises:
        ValueError: nothing in the folder can be used, the name belongs to another set, or it cannot be known whether
            it does.
    """
    check_vae(models.vae)
    check_clip_size(request.width, request.height, request.num_frames)
    if not 0 < request.fps < math.inf:
        raise ValueError(f"fps is {request.fps}; it must be a number greater than 0.")
    folder, directory = resolve_folder(folder_name), set_directory(name)
    label = folder_label(folder)
    skipped: Skipped = []
    videos = find_videos(folder, label, skipped)
    settings = _settings(request, _choose_size(folder, videos, request), models)
    with locked_directory(directory):
        old = _old_set(directory, label, settings, replace_other=replace_other, notes=models.notes())
        shards = ShardStore(directory, old.checksums if old else {})
        encoder = SetEncoder(shards, settings, models.encoders, models.vae)
        new = TrainingSet(directory, label, settings, null_key="")
        built = _Build(folder, new, old, encoder, skipped).run(videos)
        return built, set_report(built, num_encoded=encoder.num_videos)


def _settings(request: SetRequest, size: tuple[int, int], models: SetModels) -> SetSettings:
    cut = asdict(replace(request, width=size[0], height=size[1]))
    del cut["bucket"]
    return SetSettings(**cut, vae=models.vae_graph.hash, encoders=models.encoders_graph.hash)


def _choose_size(folder: Path, videos: list[CaptionedVideo], request: SetRequest) -> tuple[int, int]:
    """Return the size of all windows: the one asked for, or the bucket that most videos are nearest to."""
    if request.bucket is None:
        return request.width, request.height
    votes: Counter[tuple[int, int]] = Counter()
    for video in until_canceled(videos):
        try:
            facts = probe_video(folder / video.file.path)
        except ValueError:  # reported when its turn comes
            continue
        votes[nearest_bucket(facts.width, facts.height, request.bucket)] += 1
    return votes.most_common(1)[0][0] if votes else (request.width, request.height)


def _old_set(
    directory: Path, label: str, settings: SetSettings, *, replace_other: bool, notes: Sequence[str]
) -> TrainingSet | None:
    """Return the set that is there already, or None.

    Args:
        notes: what is unknown about the new set's models.
    Raises:
        ValueError: it is damaged, or was made of another folder or with other settings.
    """
    try:
        old = TrainingSet.open(directory)
    except FileNotFoundError:
        return None
    except ValueError:
        if replace_other:
            return None
        raise
    if replace_other or (old.folder, old.settings) == (label, settings):
        return old
    if old.folder != label:
        how = f"of the folder '{old.folder}', not '{label}'"
    elif old.version < GRAPH_VERSION:
        how = "by an older version of this pack, which did not note how its encoders and its VAE were loaded"
    else:
        how = f"with other settings ({', '.join(_differences(old.settings, settings))})"
    refusal = (
        f"The training set '{directory.name}' was built {how}. Give this one another name, or turn on 'replace' "
        "to give the old one up."
    )
    raise ValueError(" ".join([refusal, *notes]))


def _differences(old: SetSettings, new: SetSettings) -> list[str]:
    names = {"vae": "the VAE is loaded differently", "encoders": "the encoders are loaded differently"}
    pairs = [(n, getattr(old, n), getattr(new, n)) for n in vars(old)]
    return [names.get(n, f"{n} was {was} and is now {now}") for n, was, now in pairs if was != now]


class _Build:
    """One run over the videos of a folder; every finished video is on disk at once."""

    def __init__(
        self,
        folder: Path,
        new: TrainingSet,
        old: TrainingSet | None,
        encoder: SetEncoder,
        skipped: Skipped,
    ) -> None:
        self.folder, self.set, self.encoder, self.skipped = folder, new, encoder, skipped
        self.old_checksums = old.checksums if old else {}
        self.old_videos = {video.path: video for video in old.videos} if old else {}
        self.done: list[SetVideo] = []

    def run(self, videos: list[CaptionedVideo]) -> TrainingSet:
        """Encode what is new; return the committed set.

        Raises:
            ValueError: no video can be used.
        """
        show, last_commit = host_progress("encoding videos"), time.monotonic()
        self.set = replace(self.set, null_key=self.encoder.caption(""))
        try:
            for number, video in enumerate(videos):
                show(number, len(videos))
                self._add(video)
                if time.monotonic() - last_commit > COMMIT_SECONDS:
                    self._commit(complete=False)
                    last_commit = time.monotonic()
            show(len(videos), len(videos))
        except BaseException:
            self._commit(complete=False)
            raise
        if not self.done:
            raise ValueError(
                f"None of the {len(videos)} videos in '{self.set.folder}' can be trained on.\n"
                + "\n".join(skipped_lines(self.skipped))
            )
        return self._commit(complete=True)

    def _commit(self, *, complete: bool) -> TrainingSet:
        done = {video.path for video in self.done}
        not_reached = [] if complete else [v for path, v in self.old_videos.items() if path not in done]
        self.set = replace(
            self.set,
            videos=tuple(self.done + not_reached),
            complete=complete,
            skipped=tuple(self.skipped),
            checksums={**self.old_checksums, **self.encoder.shards.checksums},
        )
        self.set.commit()
        return self.set

    def _add(self, video: CaptionedVideo) -> None:
        file, path = video.file, self.folder / video.file.path
        try:
            sha256 = self._sha256(video, path)
            key, facts = self.encoder.video(path, sha256)
        except (VideoUnusable, OSError) as error:
            self.skipped.append((file.path, str(error)))
            return
        entry = file.path, file.size, file.mtime_ns, sha256, key
        keys = tuple(map(self.encoder.caption, video.captions))
        self.done.append(SetVideo(*entry, *facts, captions=video.captions, caption_keys=keys))

    def _sha256(self, video: CaptionedVideo, path: Path) -> str:
        old = self.old_videos.get(video.file.path)
        if old is not None and (old.size, old.mtime_ns) == (video.file.size, video.file.mtime_ns):
            return old.sha256
        return file_sha256(path)

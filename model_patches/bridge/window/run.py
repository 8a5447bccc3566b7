"""A whole sliding-window run, in the order in which things happen."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import folder_paths
from torch import Tensor

from ...sizes import SIZE_MULTIPLE_PX
from ...store.cancel import stop_if_canceled
from ...store.files import read_json
from ...store.names import name_fault
from ...store.video_sink import VideoFormat
from ...store.video_source import crop_to_multiple, read_frames
from ...window.directions import Directions, read_directions
from ...window.entries import digest
from ...window.plan import Window, plan_run
from ...window.run import Limits, WindowRun, window_keys
from ...window.settings import WindowSettings
from ...window.store import WindowStore
from ...window.tail import from_uint8
from ..checks import check_model
from ..encoders.conditioning import check_end_image
from ..vae import check_vae
from .cards import WindowCards
from .end_images import fingerprints, read_end_images
from .make import Models, WindowMaker, latent_of, resolve_hand_over
from .progress import WindowProgress, report_unfinished
from .start import Material, Sources, read_start

RUNS_FOLDER = "magic141_runs"
METHOD_VERSION = 3
"""Raise it when the same settings give other frames, so that no old window is taken over."""


@dataclass(frozen=True)
class Caller:
    """Who asks for a run.

    node_id: the node that shows progress. models: a hash of the graph that gives the models (from ``graph_identity``).
    metadata: tags for the video file. notes: sentences for the report.
    """

    node_id: str | None = None
    models: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """A finished run: the video's path, its last frame (1, H, W, 3), the LATENT to continue from, report, cards."""

    video: Path
    last_frame: Tensor
    tail: dict | None
    report: dict
    cards: list[dict]


def run_windows(
    models: Models, settings: WindowSettings, sources: Sources, caller: Caller | None = None
) -> Outcome:
    """Make a long video, or continue where an earlier run with the same settings stopped.

    Raises:
        ValueError: inputs that do not fit, a directory in use or broken, a full disk; finished windows are kept.
    """
    caller = caller or Caller()
    check_model(models.model)
    check_vae(models.vae)
    windows = plan_run(settings, continues=sources.image is None, has_end_image=sources.end_image is not None)
    directions = read_directions(settings.prompts)
    end_images = end_images_of(windows, directions, sources.end_image)
    material = read_start(models.vae, settings, sources)
    width, height = material.size
    hand_over = resolve_hand_over(models.vae, settings.hand_over).value
    settings = replace(settings, width=width, height=height, hand_over=hand_over)
    hashes = {"start": material.fingerprint, "models": caller.models}
    shared = {"method": METHOD_VERSION, **settings.of_every_window(), **hashes}
    keys = window_keys(windows, shared, end_images=fingerprints(end_images))
    folder = run_folder(settings.run_name, shared)
    notes = [*caller.notes, *older_folders(folder)]
    store = WindowStore(folder, shared, VideoFormat(settings.codec, settings.fps, width, height))
    with report_unfinished(store, len(windows), caller.node_id), store:
        store.metadata = caller.metadata
        limits = Limits(settings.color_anchor, settings.reroll_threshold, settings.turn_limit)
        run = WindowRun(store, windows, keys, limits, material.begin, directions=directions)
        notes += write_lead_in(store, material)
        counts = {"num_windows": len(windows), "num_done": run.num_done, "steps": settings.steps}
        progress = WindowProgress(models.model, **counts, node_id=caller.node_id)
        maker = WindowMaker(
            models, settings, material.image, end_images=end_images, callback=progress.on_step
        )
        cards = WindowCards(run, num_before=material.lead_in_frames)
        cards.send(caller.node_id)

        def on_window() -> None:
            progress.window_done(run.num_done)
            cards.send(caller.node_id)

        make_windows(run, maker, on_window)
        path = store.join()
    reported = shared | {"source_frames": material.lead_in_frames, "prompts": settings.prompts}
    assert run.tail is not None
    last_frame, tail = from_uint8(run.tail.frames[-1:]), {"samples": latent_of(run.tail)}
    return Outcome(path, last_frame, tail, run.report(path, settings=reported, notes=notes), cards.since())


def end_images_of(
    windows: list[Window], directions: Directions, last_image: Tensor | None
) -> dict[int, Tensor]:
    """Return the pictures that windows end on, checked before the first is made.

    Raises:
        ValueError: one that cannot be used, or two for the last window.
    """
    images, last = read_end_images(directions), len(windows) - 1
    if last_image is not None and last in images:
        raise ValueError(
            f"Prompt line {directions.lines[last, 'end']} gives the last window an end picture, and end_image is "
            "connected. Use one of them."
        )
    if last_image is not None:
        images[last] = last_image
    for index, image in images.items():
        check_end_image(image, windows[index].start_frame + windows[index].num_new_frames)
    return images


def make_windows(run: WindowRun[Window], maker: WindowMaker, on_window: Callable[[], None]) -> None:
    """Make all windows that are not finished, each on disk before the next starts; call ``on_window`` after each."""
    if (first := run.next_window()) is not None:
        maker.encode_ahead(run.windows[first.index :], run.tail)
    while (window := run.next_window()) is not None:
        stop_if_canceled()
        best, attempts = run.best(window, maker.make)
        run.finish(window, best, attempts=attempts)
        on_window()


def write_lead_in(store: WindowStore, material: Material) -> list[str]:
    """Put the continued video in front and use its sound; return notes on what could not be used of it."""
    if material.lead_in is None:
        return []
    frames = read_frames(material.lead_in, store.video.fps)
    store.write_lead_in(crop_to_multiple(frames, SIZE_MULTIPLE_PX))
    return store.use_sound_of(material.lead_in)


def run_folder(run_name: str, shared: dict) -> Path:
    """Return the run's directory. Other settings get another one, so they never overwrite finished windows.

    Raises:
        ValueError: the name cannot be a folder's.
    """
    if (problem := name_fault(run_name, "a run")) is not None:
        raise ValueError(problem)
    return Path(folder_paths.get_output_directory()) / RUNS_FOLDER / f"{run_name}-{digest(shared)[:8]}"


def older_folders(folder: Path) -> list[str]:
    """Return a note on folders that an older version made for the same run, if the run has no folder of its own yet."""
    if folder.exists():
        return []
    name = folder.name.rpartition("-")[0]
    older = [other.name for other in sorted(folder.parent.glob("*")) if _is_older(other, name)]
    if not older:
        return []
    return [
        f"{', '.join(older)} was made by an older version of this pack, which identified runs in another way. Its "
        "windows are kept but not continued: this run starts anew, in a folder of its own."
    ]


def _is_older(folder: Path, name: str) -> bool:
    if folder.name.rpartition("-")[0] != name:
        return False
    try:
        return read_json(folder / "run.json")["settings"]["method"] < METHOD_VERSION
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False

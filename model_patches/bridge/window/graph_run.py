"""A long video whose windows any graph makes: begin the run, hand out each window, take back what was made of it."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from ...sizes import resize_cover_crop
from ...store.pictures import to_uint8
from ...store.sound_pieces import fit_length, samples_at, to_int16
from ...store.video_sink import VideoFormat
from ...window.clips import GraphWindow, check_clip, check_speed, known_difference, new_frames
from ...window.directions import read_directions
from ...window.flash import measure_flash
from ...window.plan import attempt_seed
from ...window.run import Clip, Judged, WindowRun
from ...window.store import WindowStore
from ...window.tail import from_uint8, start_frames
from ..progress import send_text
from .cards import WindowCards
from .end_images import fingerprints, read_end_images
from .graph_start import KEEP, Settings, folder_to_keep, keys_of, plan, remember_graph
from .progress import windows_text
from .run import run_folder, write_lead_in
from .start import Material

WindowSocket = io.Custom("MAGIC141_WINDOW")
"""The io type of the window that is being made."""


@dataclass
class GraphRun:
    """A run that is in progress.

    cards: of the finished windows. end_images: by window, in the video's size. node_id: of Window Start, which shows
    the progress. latent: what the artist connected, for the first window. best, attempt: of the window that is being
    made. newest: the window that was written last.
    """

    settings: Settings
    material: Material
    run: WindowRun[GraphWindow]
    shared: dict
    cards: WindowCards
    end_images: dict[int, Tensor]
    notes: list[str] = field(default_factory=list)
    node_id: str | None = None
    latent: dict | None = None
    best: Judged | None = None
    attempt: int = 0
    newest: int | None = None

    @property
    def window(self) -> GraphWindow | None:
        """Return the window to make; None when all are finished."""
        return self.run.windows[self.run.num_done] if self.run.num_done < len(self.run.windows) else None

    @property
    def seed(self) -> int:
        """Return the seed of the attempt that is being made."""
        assert self.window is not None
        run_seed, first = self.settings.start.seed, self.window.seed
        return attempt_seed(run_seed, self.window.index, first=first, attempt=self.attempt)


def begin_run(settings: Settings, material: Material, *, metadata: dict, notes: list[str]) -> GraphRun:
    """Plan the windows, open the run's folder and take over what is finished.

    The folder is locked only while something is written, because the host does not say when a run is given up.

    Raises:
        ValueError: settings that do not fit; a folder in use or broken.
    """
    start, save = settings.start, settings.save
    windows = plan(settings, continues=material.begin.tail is not None)
    shared = settings.shared(material)
    folder = run_folder(start.run_name, shared)
    if start.when_graph_changes == KEEP and not folder.exists():
        folder, shared = folder_to_keep(folder, shared)
    directions = read_directions(start.prompts)
    ends = read_end_images(directions)
    keys = keys_of(folder, shared, windows, settings.graph, end_images=fingerprints(ends))
    video = VideoFormat(save.codec, start.fps, *material.size, save.quality)
    with WindowStore(folder, shared, video) as store:
        store.metadata = metadata
        run = WindowRun(store, windows, keys, save.limits, material.begin, directions=directions)
        notes = [*notes, *write_lead_in(store, material)]
        remember_graph(folder, settings.graph)
    cards = WindowCards(run, num_before=material.lead_in_frames)
    newest = run.num_done - 1 if run.num_done else None
    end_images = {index: resize_cover_crop(image, *material.size) for index, image in ends.items()}
    return GraphRun(settings, material, run, shared, cards, end_images, notes, newest=newest)


def show_progress(run: GraphRun) -> None:
    """Show on Window Start what is finished, which window is being made, and about how long the rest will take."""
    run.cards.send(run.node_id)
    done, total = run.run.num_done, len(run.run.windows)
    seconds = sum(facts["seconds"] for facts in run.run.facts)
    again = f", attempt {run.attempt + 1}" if run.attempt else ""
    send_text(
        windows_text(done, total, again, seconds / done * (total - done) if done else None), run.node_id
    )


def newest_segment(run: GraphRun) -> Path | None:
    """Return the file of the window that was written last."""
    store = run.run.store
    return None if run.newest is None else store.folder / store.segment_name(run.newest)


def hand_out(run: GraphRun) -> dict[str, Any]:
    """Return what the next window is made from, by output of Window Start; the time of the window starts to count."""
    window, start = run.window, run.settings.start
    assert window is not None
    if run.attempt == 0:
        run.run.next_window()
    width, height = run.material.size
    return {
        "frames": known_frames(run, window),
        "first_frame": run.material.image,
        "prompt": window.prompt,
        "seed": run.seed,
        "length": window.length,
        "width": width,
        "height": height,
        "index": window.index,
        "is_first": window.index == 0,
        "latent": latent_before(run),
        "negative_prompt": start.negative_prompt,
        "fps": start.fps,
        "end_image": run.end_images.get(window.index),
    }


def known_frames(run: GraphRun, window: GraphWindow) -> Tensor:
    """Return the frames that a window continues, (k, H, W, 3) in [0, 1]."""
    tail = run.run.tail
    if tail is None:
        return run.material.image
    return from_uint8(start_frames(tail, window.num_known))


def latent_before(run: GraphRun) -> dict | None:
    """Return the latent of the window before, or what the artist gave the first one."""
    samples = None if run.run.tail is None else run.run.tail.state.get("latent")
    return run.latent if samples is None else {"samples": samples}


@dataclass(frozen=True)
class Returned:
    """What a graph made of a window.

    frames: (T, H, W, 3), the known ones included. latent: of any shape. sound: (C, S) in [-1, 1] at ``rate`` samples
    a second. fps: of a VIDEO, None for pictures.
    """

    frames: Tensor
    latent: Tensor | None = None
    sound: Tensor | None = None
    rate: int = 0
    fps: float | None = None


def take_back(run: GraphRun, returned: Returned) -> None:
    """Take the clip that the graph made: judge it, write it, or let it be made again with another seed.

    Raises:
        ValueError: it is not the clip that was asked for; the windows before are kept.
    """
    window = run.window
    assert window is not None
    check_clip(returned.frames, window, width=run.material.size[0], height=run.material.size[1])
    check_speed(returned.fps, run.settings.start.fps)
    judged = judge(run, window, returned)
    run.best = judged if run.best is None or judged.over < run.best.over else run.best
    if run.best.over > 1 and run.attempt < run.settings.save.reroll_limit:
        run.attempt += 1
        return
    with run.run.store:
        run.run.finish(window, run.best, attempts=run.attempt + 1)
    run.best, run.attempt, run.newest = None, 0, window.index


def judge(run: GraphRun, window: GraphWindow, returned: Returned) -> Judged:
    """Hold a clip's colors and measure it, including a flash at its beginning."""
    known = known_frames(run, window)
    judged = run.run.judge(window, Clip(new_frames(returned.frames, window, known), run.seed))
    measures = dict(judged.measures)
    if run.run.tail is not None:
        measures |= measure_flash(from_uint8(run.run.tail.frames), judged.clip.frames)
    measures["known_difference"] = known_difference(returned.frames, known)
    state = state_of(window, returned, run.settings.start.fps)
    if window.num_held_back:
        state["held_back"] = to_uint8(judged.clip.frames[window.num_new_frames :])
    clip = Clip(judged.clip.frames[: window.num_new_frames], run.seed, state)
    over = judged.over
    if limit := run.settings.save.flash_limit:
        over = max(over, 100 * abs(measures.get("flash_brightness", 0.0)) / limit)
    return replace(judged, clip=clip, measures=measures, over=over)


def state_of(window: GraphWindow, returned: Returned, fps: float) -> dict[str, Tensor]:
    """Return what is kept of a window besides its frames: its latent, and the sound of its new frames.

    Raises:
        ValueError: a latent that is no plain tensor.
    """
    if returned.latent is not None and type(returned.latent) is not Tensor:
        raise ValueError(
            f"latent of Window Save is a {type(returned.latent).__name__}, which cannot be kept on disk. Leave latent "
            "unconnected, or connect the video part alone (Separate AV Latent)."
        )
    state = {} if returned.latent is None else {"latent": returned.latent.cpu()}
    if returned.sound is None:
        return state
    rate = returned.rate
    end = samples_at(window.start_frame + window.num_new_frames, fps, rate)
    count = end - samples_at(window.start_frame, fps, rate)
    new = to_int16(returned.sound)[:, samples_at(window.num_skipped, fps, rate) :]
    return state | {"sound": fit_length(new, count), "sound_rate": torch.tensor(rate)}

"""The start of a long video that a graph makes: settings, first picture or video, plan, and the run's folder."""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor

from ...store.files import read_json, write_text
from ...store.pictures import to_uint8
from ...store.video_source import source_sha256
from ...window.clips import ClipSizes, GraphWindow, count_frames, plan_clips
from ...window.entries import digest, entry_name
from ...window.journal import ChainedKeys
from ...window.run import SEAM_FRAMES, Begin, Limits, key_part, make_reference
from ...window.settings import WINDOWS
from ...window.tail import Tail
from ...window.takes import TAKES
from .start import Material, from_image, read_video_end

METHOD_VERSION = "graph 1"
"""Change it when the same graph and settings give other frames, so that no old window is taken over."""
GRAPHS_FILE = "graphs.json"
"""In a run's folder: the hashes of all graphs that its windows may have been made with."""
ANEW, KEEP = "make all windows anew", "keep finished windows"


@dataclass(frozen=True)
class StartSettings:
    """The widgets of Window Start; lengths in frames."""

    prompts: str
    negative_prompt: str
    length: float
    length_in: str
    window_length: int
    known_frames: int
    width: int
    height: int
    fps: float
    seed: int
    run_name: str
    when_graph_changes: str = ANEW


@dataclass(frozen=True)
class SaveSettings:
    """The widgets of Window Save. Limits of 0 are none; flash_limit is in percent."""

    color_anchor: float = 0.0
    seam_limit: float = 0.0
    turn_limit: float = 0.0
    flash_limit: float = 0.0
    reroll_limit: int = 2
    drop_new: int = 0
    blend: int = 0
    codec: str = "h264"
    quality: int = 17

    @property
    def limits(self) -> Limits:
        """Return what every long video is held to."""
        return Limits(self.color_anchor, self.seam_limit, self.turn_limit)


@dataclass(frozen=True)
class Settings:
    """What the artist set on both nodes, and the hash of the graph between them."""

    start: StartSettings
    save: SaveSettings
    graph: str

    def shared(self, material: Material) -> dict:
        """Return the settings that change every frame, as plain values."""
        per_window = ("prompts", "length", "length_in", "run_name", "when_graph_changes")
        widgets = {name: value for name, value in asdict(self.start).items() if name not in per_window}
        size = dict(zip(("width", "height"), material.size, strict=True))
        sources = {"method": METHOD_VERSION, "start": material.fingerprint, "graph": self.graph}
        return widgets | asdict(self.save) | size | sources


def read_beginning(start: StartSettings, *, image: Tensor | None, video) -> Material:
    """Read what the video begins with.

    Raises:
        ValueError: nothing, too much, or something that cannot be used.
    """
    if image is not None and video is not None:
        raise ValueError("Connect image to begin with a picture, or video to continue one, not both.")
    if video is not None:
        return from_video(start, video)
    if image is None:
        raise ValueError(
            "Nothing to begin with: connect image, or video to continue one (a latent needs its video too, whose last "
            "frames the next window continues)."
        )
    return from_image(image, (start.width, start.height), keep_frames=start.known_frames)


def from_video(start: StartSettings, video) -> Material:
    """Read the end of a video that is continued; it becomes the beginning of the result."""
    source, first, last, count = read_video_end(video, start.fps, max(start.known_frames, SEAM_FRAMES))
    if len(last) < start.known_frames:
        raise ValueError(
            f"The video has {len(last)} frames and known_frames is {start.known_frames}. Set known_frames to "
            f"{len(last)} or less, or give a longer video."
        )
    begin = Begin(start.known_frames, Tail(to_uint8(last)), make_reference(last), first)
    return Material(first, begin, source_sha256(source), source, count)


def plan(settings: Settings, *, continues: bool) -> list[GraphWindow]:
    """Return the windows of a run."""
    start = settings.start
    sizes = ClipSizes(start.window_length, start.known_frames, settings.save.drop_new, settings.save.blend)
    in_windows = start.length_in == WINDOWS
    num_frames = count_frames(sizes, start.length, in_windows=in_windows, fps=start.fps, continues=continues)
    return plan_clips(
        sizes, num_frames, continues=continues, prompts=start.prompts, fps=start.fps, seed=start.seed
    )


def folder_to_keep(folder: Path, shared: dict) -> tuple[Path, dict]:
    """Return the newest folder of this run made with any graph, and its settings; if there is none, the given ones."""
    name = folder.name.rpartition("-")[0]
    candidates = []
    for other in folder.parent.glob(f"{name}-????????"):
        try:
            settings = read_json(other / "run.json")["settings"]
            same = settings | {"graph": shared["graph"]} == json.loads(json.dumps(shared))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
        if same:
            candidates.append(((other / "windows").stat().st_mtime_ns, other, settings))
    return max(candidates)[1:] if candidates else (folder, shared)


def keys_of(
    folder: Path,
    shared: dict,
    windows: list[GraphWindow],
    graph: str,
    *,
    end_images: Mapping[int, str] | None = None,
) -> ChainedKeys:
    """Return the journal's key of every window, each with the graph that made it.

    Finished windows may have been made by graphs that were used in this folder before. From the first window that is
    not finished, only the current graph counts.

    Args:
        end_images: hashes of the pictures that windows end on.
    """
    key = digest({name: value for name, value in shared.items() if name != "graph"})
    keys, parts, graphs = [], [], [graph, *graphs_of(folder)]
    for window in windows:
        part = key_part(window, end_images or {})
        possible = {digest([key, part | {"graph": known}]): known for known in graphs}
        on_disk = keys_on_disk(folder, window.index) if len(graphs) > 1 else []
        finished = [known for known in on_disk if known in possible]
        if not finished:
            graphs = [graph]
        key = [*finished, *possible][0]
        keys.append(key)
        parts.append(part | {"graph": possible[key]})
    return ChainedKeys(keys, parts)


def keys_on_disk(folder: Path, index: int) -> list[str]:
    """Return the keys of a finished window and of its older take."""
    keys = []
    for place in (folder, *folder.glob(f"{TAKES}/{index:04d}-*")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            keys.append(read_json(place / entry_name(index))["entry"]["key"])
    return keys


def graphs_of(folder: Path) -> list[str]:
    """Return the hashes of the graphs that were used in a run's folder."""
    try:
        return [str(graph) for graph in read_json(folder / GRAPHS_FILE)]
    except (OSError, ValueError, TypeError, RecursionError):
        return []


def remember_graph(folder: Path, graph: str) -> None:
    """Add a graph's hash to those that were used in a run's folder."""
    known = graphs_of(folder)
    if graph not in known:
        write_text(folder / GRAPHS_FILE, json.dumps([*known, graph]))

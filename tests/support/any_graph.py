"""Graphs around Window Start and Window Save for tests and benches, and a server that has the made-up nodes."""

import contextlib
import io
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from magic141.tools.client import ComfyClient, Result
from magic141.tools.server import PACK, ComfyServer, link_folder, make_base_folder

MADE_UP_NODES = PACK / "tests" / "support" / "any_graph_nodes"
PATIENCE_S = 1800
"""A shared machine may give a server a fraction of a core."""
START, SAVE = "Magic141WindowStart", "Magic141WindowSave"
START_WIDGETS = {
    "prompts": "one\ntwo\nthree",
    "negative_prompt": "",
    "length": 3.0,
    "length_in": "windows",
    "window_length": 13,
    "known_frames": 1,
    "width": 64,
    "height": 64,
    "fps": 16.0,
    "seed": 1,
    "run_name": "run",
    "when_graph_changes": "make all windows anew",
}
SAVE_WIDGETS = {
    "color_anchor": 0.0,
    "seam_limit": 0.0,
    "turn_limit": 0.0,
    "flash_limit": 0.0,
    "reroll_limit": 2,
    "drop_new": 0,
    "blend": 0,
    "codec": "ffv1 lossless",
    "quality": 17,
}
SLOTS = {
    "window": 0,
    "frames": 1,
    "first_frame": 2,
    "prompt": 3,
    "seed": 4,
    "length": 5,
    "width": 6,
    "height": 7,
}
SLOTS |= {"index": 8, "is_first": 9, "latent": 10, "negative_prompt": 11, "fps": 12, "end_image": 13}


@contextlib.contextmanager
def any_graph_server(base: Path, *, flags: tuple[str, ...] = ()) -> Iterator[ComfyServer]:
    """A server with the pack and the made-up nodes."""
    make_base_folder(base, PACK)
    link_folder(base / "custom_nodes" / "any_graph_nodes", MADE_UP_NODES)
    with ComfyServer(base, flags=flags) as server:
        yield server


def kill(server: ComfyServer) -> None:
    """End a server as a power cut would."""
    assert server.process is not None
    if os.name == "nt":
        server.process.kill()
    else:
        os.killpg(server.process.pid, signal.SIGKILL)
    server.process.wait()


def made_up_graph(*, clip: dict | None = None, save: dict | None = None, **start: object) -> dict:
    """Return a prompt of made-up nodes between Window Start (``start``) and Window Save (``save``).

    Args:
        clip: widgets of the node that makes the clip.
    """
    widgets = START_WIDGETS | start
    size = {name: widgets[name] for name in ("width", "height")}
    made = {"seconds": 0.0, "fault": "none", "fault_in": -1, **(clip or {})}
    links = {name: ["start", SLOTS[name]] for name in ("frames", "prompt", "seed", "length", "index")}
    return {
        "picture": {"class_type": "TestMadeUpPicture", "inputs": size},
        "model": {"class_type": "TestMadeUpModel", "inputs": {"brightness": 0.0}},
        "start": {"class_type": START, "inputs": {**widgets, "image": ["picture", 0]}},
        "clip": {"class_type": "TestMadeUpClip", "inputs": {"model": ["model", 0], **links, **made}},
        "save": {
            "class_type": SAVE,
            "inputs": {"window": ["start", 0], "images": ["clip", 0], **SAVE_WIDGETS, **(save or {})},
        },
    }


def run(tab: ComfyClient, graph: dict, **options) -> Result:
    return tab.run(graph, timeout=PATIENCE_S, **options)


def frames_of(data: bytes) -> np.ndarray:
    with av.open(io.BytesIO(data)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def video_of(tab: ComfyClient, result) -> np.ndarray:
    """Return the frames of the video that the history names under Window Save's own id."""
    return frames_of(tab.download(result.outputs["save"]["images"][0]))


def loads(server: ComfyServer) -> int:
    return json.loads((server.base / "output" / "made_up_loads.json").read_text())


def segments(server: ComfyServer, name: str) -> list[str]:
    return sorted(
        path.name for path in (server.base / "output" / "magic141_runs").glob(f"{name}-*/segments/*")
    )

"""Long runs of made-up windows in a real server: memory, time, loads, kills, and what a client of the API sees."""

import io
import json
import os
import random
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
import psutil
from magic141.tests.support.any_graph import START, any_graph_server, frames_of, made_up_graph
from magic141.tools.client import ComfyClient
from magic141.tools.server import ComfyServer

if TYPE_CHECKING:
    from magic141.tests.support.template_graphs import Template

SIDE_PX, WINDOW_FRAMES = 512, 17
WINDOW_BYTES = SIDE_PX * SIDE_PX * 3 * 4 * WINDOW_FRAMES
WARM_UP_SHARE = 0.2
"""Of the windows, whose memory is not read: the server still loads what it needs."""
PATIENCE_S = 6 * 3600
SOUND_STEP_S = 0.1
"""More than one frame of the sound's codec, less than what is heard."""


@dataclass
class Watch:
    """Reads the server's memory whenever a window begins, and the time that the graph's own node takes."""

    process: psutil.Process
    rss: list[int] = field(default_factory=list)
    node_s: float = 0.0
    _since: float | None = None

    def __call__(self, kind: str, data: dict) -> None:
        if kind != "executing":
            return
        now = time.monotonic()
        if self._since is not None:
            self.node_s += now - self._since
        self._since = now if data.get("display_node") == "clip" else None
        if self._since is not None:
            self.rss.append(self.process.memory_info().rss)


def measure_memory(num_windows: int, *flags: str) -> dict[str, float]:
    """Make windows with one press of Run; return how memory grew, the loads of the model, and the time beside it."""
    size = {"width": SIDE_PX, "height": SIDE_PX, "window_length": WINDOW_FRAMES}
    graph = made_up_graph(**size, length=float(num_windows), prompts="one", save={"codec": "h264"})
    with tempfile.TemporaryDirectory() as folder, any_graph_server(Path(folder), flags=flags) as server:
        assert server.process is not None
        watch = Watch(psutil.Process(server.process.pid))
        client = ComfyClient(server.url)
        result = client.run(graph, on_event=watch, timeout=PATIENCE_S)
        again_s = client.run(graph, timeout=PATIENCE_S).seconds
        loads = json.loads((server.base / "output" / "made_up_loads.json").read_text())
    settled = np.array(watch.rss[round(WARM_UP_SHARE * num_windows) :], dtype=float)
    slope = float(np.polyfit(np.arange(len(settled)), settled, 1)[0])
    return {
        "rss_slope_share_of_window": slope / WINDOW_BYTES,
        "rss_peak_mb": max(watch.rss) / 2**20,
        "model_loads": float(loads),
        "overhead_ms_per_window": 1000 * (result.seconds - watch.node_s) / num_windows,
        "run_again_unchanged_s": again_s,
    }


def stock_save_ms() -> dict[str, float]:
    """Return what the host's own Create Video and Save Video take for the same clip, which our nodes replace."""
    graph = made_up_graph(width=SIDE_PX, height=SIDE_PX, window_length=WINDOW_FRAMES)
    del graph["start"]
    graph["clip"]["inputs"] |= {
        "frames": ["picture", 0],
        "prompt": "one",
        "length": WINDOW_FRAMES,
        "index": 0,
    }
    graph["create"] = {"class_type": "CreateVideo", "inputs": {"images": ["clip", 0], "fps": 16.0}}
    save = {"video": ["create", 0], "filename_prefix": "stock", "format": "auto", "codec": "auto"}
    graph["save"] = {"class_type": "SaveVideo", "inputs": save}
    times = []
    with tempfile.TemporaryDirectory() as folder, any_graph_server(Path(folder)) as server:
        assert server.process is not None
        for seed in range(5):
            graph["clip"]["inputs"]["seed"] = seed
            watch = Watch(psutil.Process(server.process.pid))
            result = ComfyClient(server.url).run(graph, on_event=watch, timeout=PATIENCE_S)
            times.append(1000 * (result.seconds - watch.node_s))
    return {"stock_save_ms_per_window": float(np.median(times))}


def api_history_has_video() -> float:
    """Poll the history of a prompt as a client does; 1 if nothing ends before the video is there, under its node."""
    graph = made_up_graph(clip={"seconds": 1.0})
    with tempfile.TemporaryDirectory() as folder, any_graph_server(Path(folder)) as server:
        client = ComfyClient(server.url)
        prompt_id = client.queue(graph)
        while not (history := client.get_json(f"/history/{prompt_id}")):
            time.sleep(0.05)
        entry = history[prompt_id]
        file = entry["outputs"]["save"]["images"][0]
        starts = [kind for kind, _ in entry["status"]["messages"] if kind == "execution_start"]
        frames = frames_of(client.download(file))
    return float(entry["status"]["completed"] and len(starts) == 1 and len(frames) == 37)


def resume_identical_frames(kills: int) -> dict[str, float]:
    """Kill the server (SIGKILL) at random moments of a run, finish it, and compare with an undisturbed run."""
    chance = random.Random(141)
    num_windows = 2 * kills + 2
    graph = made_up_graph(length=float(num_windows), prompts="one", known_frames=5, clip={"seconds": 0.5})
    hits = 0
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(kills):
            with any_graph_server(Path(folder)) as server:
                hits += killed(server, graph, after=chance.randint(1, 2), wait_s=chance.random())
        with any_graph_server(Path(folder)) as server:
            resumed = video_of(server, graph)
            graph["start"]["inputs"]["run_name"] = "whole"
            whole = video_of(server, graph)
    return {"resume_identical_frames": float(np.array_equal(resumed, whole)), "resume_kills": float(hits)}


def killed(server: ComfyServer, graph: dict, *, after: int, wait_s: float) -> bool:
    """Kill a server some windows further and a moment later; tell whether the run was still going on."""
    client = ComfyClient(server.url)
    wanted = windows_of(server) + after
    prompt_id = client.queue(graph)
    while windows_of(server) < wanted and not client.get_json(f"/history/{prompt_id}"):
        time.sleep(0.05)
    time.sleep(wait_s)
    running = not client.get_json(f"/history/{prompt_id}")
    assert server.process is not None
    os.killpg(server.process.pid, signal.SIGKILL)
    server.process.wait()
    return running


def windows_of(server: ComfyServer) -> int:
    return len(list((server.base / "output").rglob("windows/*.json")))


def video_of(server: ComfyServer, graph: dict) -> np.ndarray:
    client = ComfyClient(server.url)
    result = client.run(graph, timeout=PATIENCE_S)
    return frames_of(client.download(result.outputs["save"]["images"][0]))


def run_templates(told: Callable[[str], None], names: tuple[str, ...] | None = None) -> dict[str, float]:
    """Make three windows of the stock templates and of ours, on small random weights; return how many ran and failed.

    Args:
        told: called with what went wrong.
        names: the templates to run; None for all.
    """
    from magic141.tests.support.template_graphs import OWN_TEMPLATES, TEMPLATES

    chosen = [entry for entry in TEMPLATES + OWN_TEMPLATES if names is None or entry.name in names]
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        for write_weights in {template.write_weights for template in chosen}:
            write_weights(base / "models")
        with any_graph_server(base) as server:
            for template in chosen:
                try:
                    run_template(template, server)
                except Exception as error:
                    failed.append(template)
                    told(f"{template.name}: {error}")
    ran = [template for template in chosen if template not in failed]
    own = sum(template in OWN_TEMPLATES for template in ran)
    figures = {"templates_run": len(ran) - own, "own_templates_run": own, "templates_failed": len(failed)}
    return {name: float(value) for name, value in figures.items()}


def run_template(template: "Template", server: ComfyServer) -> None:
    """Make three windows of a template and look at the video joined from them.

    Raises:
        AssertionError: a window is missing, or the sound is not as long as the pictures.
    """
    from magic141.tests.support.template_graphs import of_class, small_graph

    client = ComfyClient(server.url)
    graph = small_graph(template, client.object_info(), server.base)
    (start,) = of_class(graph, START)
    outputs = client.run(graph, timeout=PATIENCE_S).outputs
    (save,) = (output for output in outputs.values() if "magic141_windows" in output)
    assert len(save["magic141_windows"]) == 3, save
    num_frames = 3 * start["inputs"]["window_length"] - 2 * start["inputs"]["known_frames"]
    video = client.download(save["images"][0])
    assert len(frames_of(video)) == num_frames
    if template.has_sound:
        difference_s = sound_seconds(video) - num_frames / template.fps
        assert abs(difference_s) < SOUND_STEP_S, f"the sound is {difference_s:.3f} s longer than the pictures"


def sound_seconds(data: bytes) -> float:
    with av.open(io.BytesIO(data)) as container:
        rate = container.streams.audio[0].rate
        return sum(frame.samples for frame in container.decode(audio=0)) / rate

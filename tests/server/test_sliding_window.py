"""Sliding Window Extend in a real ComfyUI: its workflows, cancel, and a kill in the middle."""

import io
import json
import math
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from magic141.tests.support.any_graph import kill
from magic141.tools.client import ComfyClient, ExecutionFailed, Interrupted, PromptRejected
from magic141.tools.demo import cut_long_videos
from magic141.tools.graph import workflow_to_prompt
from magic141.tools.templates import template

NODE = "Magic141SlidingWindowExtend"
PATIENCE_S = 1800
"""A shared machine may give a server a fraction of a core."""


def prompt_of(name: str, object_info: dict, **inputs: Any) -> dict:
    """Return a workflow with other inputs of its last window node, and no video longer than their length."""
    workflow = json.loads(template(name).read_text(encoding="utf-8"))
    prompt = workflow_to_prompt(workflow, object_info)
    cut_long_videos(prompt, inputs.get("length", math.inf))
    window(prompt).update(inputs)
    return prompt


def window(prompt: dict) -> dict:
    return prompt[window_key(prompt)]["inputs"]


def window_key(prompt: dict) -> str:
    return [key for key, node in prompt.items() if node["class_type"] == NODE][-1]


def only_window(prompt: dict) -> dict:
    """Leave out what comes after the node."""
    return {
        key: node for key, node in prompt.items() if node["class_type"] not in ("SaveVideo", "PreviewImage")
    }


def frames_of(data: bytes | Path) -> np.ndarray:
    with av.open(io.BytesIO(data) if isinstance(data, bytes) else str(data)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def made_video(result, prompt: dict) -> dict:
    return result.outputs[window_key(prompt)]["images"][0]


@pytest.mark.parametrize(
    ("name", "seconds", "num_frames"),
    [
        ("magic141_one_minute", 1.0, 25),
        ("magic141_continue_video", 0.5, 13 + 12),
        ("magic141_prompts_per_window", 6.5, 157),
    ],
)
def test_workflows_make_their_video(name, seconds, num_frames, client, object_info):
    texts: list[float] = []

    def on_event(kind: str, data: dict) -> None:
        if kind == "progress" and data["max"] > 4:
            texts.append(data["value"] / data["max"])

    prompt = prompt_of(name, object_info, length=seconds, steps=1 if seconds > 1 else 4)
    result = client.run(prompt, on_event=on_event, timeout=PATIENCE_S)
    video = made_video(result, prompt)
    data = client.download(video)
    assert frames_of(data).shape == (num_frames, 64, 64, 3)
    with av.open(io.BytesIO(data)) as container:
        assert "prompt" in container.metadata
    assert texts == sorted(texts)
    assert texts[-1] == 1.0
    assert result.previews > 0


def test_cancel_keeps_what_is_finished_and_queueing_again_goes_on(client, server, object_info):
    options = {"length": 1.0, "steps": 4, "run_name": "cancelled", "codec": "ffv1 lossless"}
    prompt = only_window(prompt_of("magic141_one_minute", object_info, **options))
    seen: list[float] = []
    texts: list[str] = []

    def cancel(kind: str, data: dict) -> None:
        if kind == "text":
            texts.append(data["text"])
        if kind == "progress" and data["max"] > 4:
            seen.append(data["value"])
            if len(seen) == 6:
                client.interrupt()

    with pytest.raises(Interrupted):
        client.run(prompt, on_event=cancel, timeout=PATIENCE_S)
    assert seen[-1] <= 8, "cancel takes effect within a step or two"
    runs = list((server.base / "output" / "magic141_runs").glob("cancelled-*"))
    assert len(runs) == 1
    assert [path.name for path in sorted((runs[0] / "segments").iterdir())] == ["0000.mkv"]
    unfinished = next(runs[0].glob("unfinished_*.mkv"))
    assert frames_of(unfinished).shape[0] == 13
    assert texts[-1] == f"Window 2 of 3 was not finished. Windows kept: 1, in {unfinished}"
    again = client.run(prompt)
    fresh = client.run(
        only_window(prompt_of("magic141_one_minute", object_info, **options | {"run_name": "fresh"}))
    )
    same = [frames_of(client.download(made_video(result, prompt))) for result in (again, fresh)]
    assert np.array_equal(*same)


def test_after_a_kill_the_frames_are_the_same(servers_before, tab):
    options = {"length": 1.0, "steps": 2, "run_name": "killed", "codec": "ffv1 lossless"}
    prompt = only_window(prompt_of("magic141_one_minute", tab.object_info(), **options))
    server = servers_before()

    class Killed(Exception):
        pass

    def on_event(kind: str, data: dict) -> None:
        if kind == "progress" and data["max"] > 4 and data["value"] >= 3:
            kill(server)
            raise Killed

    with pytest.raises(Killed):
        ComfyClient(server.url).run(prompt, on_event=on_event, timeout=PATIENCE_S)
    first = tab.run(prompt, timeout=PATIENCE_S)
    window(prompt)["run_name"] = "whole"
    second = tab.run(prompt, timeout=PATIENCE_S)
    resumed, whole = (frames_of(tab.download(made_video(result, prompt))) for result in (first, second))
    assert np.array_equal(resumed, whole)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"overlap": 4}, "overlap is 4 latent frames and the window 4"),
        ({"prompts": "[5-3] a"}, "Let the range end after it starts"),
        ({"run_name": "a/b"}, "cannot be the name of a run"),
    ],
)
def test_faults_are_said_before_the_run(client, object_info, inputs, message):
    with pytest.raises(PromptRejected, match=message):
        client.run(prompt_of("magic141_one_minute", object_info, **inputs))


def test_too_many_prompts_are_said(client, object_info):
    prompt = prompt_of("magic141_one_minute", object_info, length=1.0, prompts="\n".join("abcdefgh"))
    with pytest.raises(ExecutionFailed, match="8 prompt lines for"):
        client.run(prompt)

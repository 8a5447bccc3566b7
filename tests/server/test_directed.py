"""Single windows of a graph directed by lines of the prompts box, and what the page is told meanwhile."""

import shutil

import numpy as np
import pytest
import torch
from magic141.model_patches.store.pictures import to_image
from magic141.tests.support.any_graph import SLOTS, frames_of, made_up_graph, run, video_of
from magic141.tools.client import ExecutionFailed, PromptRejected

EVENT, STORY = "magic141.windows", "one\ntwo\nthree"


def run_told(tab, graph) -> tuple[np.ndarray, list[dict], int]:
    """Return the video, what the page was told of windows, and how many clips were made."""
    told, made = [], []

    def on_event(kind: str, data: dict) -> None:
        if kind == EVENT:
            told.append(data)
        if kind == "executing" and data.get("display_node") == "clip":
            made.append(data)

    return video_of(tab, run(tab, graph, on_event=on_event)), told, len(made)


def test_a_window_is_made_again_and_gone_back_to(tab):
    graph = made_up_graph(run_name="directed")
    first, told, made = run_told(tab, graph)
    assert made == 3
    assert [[card["index"] for card in message["windows"]] for message in told] == [[0], [1], [2]]
    assert {(message["node"], message["num_windows"], message["num_kept"]) for message in told} == {
        ("start", 3, 0)
    }
    assert all(message["prompt_id"] for message in told)
    card = told[1]["windows"][0]
    assert len(frames_of(tab.download(card["file"]))) == 12
    graph["start"]["inputs"]["prompts"] = f"{STORY}\n[window 2] seed {2**64 - 1}"
    second, told, made = run_told(tab, graph)
    assert made == 2
    assert [[card["index"] for card in message["windows"]] for message in told] == [[0], [1], [2]]
    redone = told[1]["windows"][0]
    assert redone["seed"] == str(2**64 - 1)
    assert [(take["prompt"], take["seed"]) for take in redone["takes"]] == [("two", card["seed"])]
    assert tab.download(redone["takes"][0]["file"])
    graph["start"]["inputs"]["prompts"] = STORY
    back, told, made = run_told(tab, graph)
    assert made == 0
    assert [[card["kept"] for card in message["windows"]] for message in told] == [[True] * 3]
    assert np.array_equal(first, back)
    assert not np.array_equal(first, second)


def test_later_windows_are_kept_and_told_with_their_difference(tab):
    graph = made_up_graph(run_name="kept_later")
    first, _, _ = run_told(tab, graph)
    graph["start"]["inputs"]["prompts"] = f"{STORY}\n[window 2] seed 6\n[keep later] 100"
    second, told, made = run_told(tab, graph)
    assert made == 1
    assert [[card["index"] for card in message["windows"]] for message in told] == [[0], [1, 2]]
    kept = told[1]["windows"][1]
    assert kept["kept"]
    assert kept["start_difference"] > 0
    assert np.array_equal(first[25:], second[25:])


def test_a_window_is_given_its_last_frame(tab, graph_server):
    first = video_of(tab, run(tab, made_up_graph(run_name="without_end")))
    folder = graph_server.base / "input" / "ends"
    folder.mkdir(parents=True, exist_ok=True)
    to_image(torch.full((64, 64, 3), 0.5)).save(folder / "gray.png")
    prompts = f"{STORY}\n[window 2] end ends/gray.png"
    graph = made_up_graph(run_name="with_end", prompts=prompts)
    with pytest.raises(ExecutionFailed, match="line 4 gives a window an end picture, but nothing takes it"):
        run(tab, graph)
    graph["clip"]["inputs"]["end_image"] = ["start", SLOTS["end_image"]]
    made, told, _ = run_told(tab, graph)
    assert np.array_equal(made[:24], first[:24])
    assert np.unique(made[24]).tolist() == [128]
    assert [message["windows"][0]["end"] for message in told] == ["", "ends/gray.png", ""]
    shutil.rmtree(folder)
    with pytest.raises(
        PromptRejected, match=r"names the picture 'ends/gray\.png', which is not in ComfyUI's input"
    ):
        run(tab, graph)

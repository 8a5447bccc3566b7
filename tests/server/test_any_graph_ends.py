"""Long videos out of any graph that end early or are set up wrong: nothing is lost, nothing goes on for ever."""

import json
import threading
import time

import numpy as np
import pytest
from magic141.tests.support.any_graph import frames_of, made_up_graph, run, segments, video_of
from magic141.tools.client import ComfyClient, ExecutionFailed, Interrupted


def wait_for_segments(server, name: str, count: int) -> None:
    until = time.monotonic() + 300
    while len(segments(server, name)) < count:
        assert time.monotonic() < until, "no window was finished"
        time.sleep(0.02)


def history(tab: ComfyClient, prompt_id: str) -> dict:
    until = time.monotonic() + 600
    while not (entry := tab.get_json(f"/history/{prompt_id}")):
        assert time.monotonic() < until, "the prompt did not end"
        time.sleep(0.1)
    return entry[prompt_id]


def error_of(entry: dict) -> dict:
    return next(data for kind, data in entry["status"]["messages"] if kind == "execution_error")


def unfinished(server, name: str) -> list:
    folders = (server.base / "output" / "magic141_runs").glob(f"{name}-*")
    return [path for folder in folders for path in folder.glob("unfinished_*")]


def test_after_a_cancel_what_is_finished_is_one_video_and_its_place_is_told(tab, graph_server):
    graph = made_up_graph(run_name="left", clip={"seconds": 2.0})
    texts: list[str] = []

    def watch(kind: str, data: dict) -> None:
        if kind == "text" and data["node"] == "start":
            texts.append(data["text"])
        shown = kind == "executing" and data.get("display_node") == "clip"
        if shown and len(segments(graph_server, "left")) == 2:
            tab.interrupt()

    with pytest.raises(Interrupted):
        run(tab, graph, on_event=watch)
    (path,) = unfinished(graph_server, "left")
    left = frames_of(path.read_bytes())
    assert len(left) == 13 + 12
    assert "Window 3 of 3 was not finished" in texts[-1]
    assert str(path) in texts[-1]
    assert np.array_equal(video_of(tab, run(tab, graph))[:25], left)
    assert unfinished(graph_server, "left") == []


def test_an_error_stands_on_the_node_at_fault_and_names_its_window(tab, graph_server):
    prompt_id = tab.queue(made_up_graph(run_name="at fault", clip={"fault": "error", "fault_in": 1}))
    error = error_of(history(tab, prompt_id))
    assert (error["node_id"], error["node_type"]) == ("clip", "TestMadeUpClip")
    assert "the made-up model failed" in error["exception_message"]
    assert "Window 2 of 3 was not finished. Windows kept: 1, in " in error["exception_message"]
    short = tab.queue(made_up_graph(run_name="at fault too", clip={"fault": "short", "fault_in": 0}))
    error = error_of(history(tab, short))
    assert error["node_id"] == "save"
    assert "Window 1 of 3 was not finished. Nothing was finished before." in error["exception_message"]


def test_errors_of_other_nodes_stay_where_they_are(tab):
    run(tab, made_up_graph(run_name="well"))
    graph = made_up_graph(run_name="after", clip={"fault": "error", "fault_in": 0})
    del graph["start"]
    graph["clip"]["inputs"] |= {"frames": ["picture", 0], "prompt": "", "seed": 1, "length": 13, "index": 0}
    graph["save"] = {"class_type": "PreviewImage", "inputs": {"images": ["clip", 0]}}
    error = error_of(history(tab, tab.queue(graph)))
    assert error["node_id"] == "clip"
    assert "Window" not in error["exception_message"]


def two_runs(first: str, second: str) -> dict:
    """Two graphs in one prompt; the nodes of the second have a 2 behind their names."""
    graph = made_up_graph(run_name=first)
    other = json.loads(json.dumps(made_up_graph(run_name=second)).replace('"picture"', '"picture2"'))
    for name in ("start", "clip", "save", "model"):
        other = json.loads(json.dumps(other).replace(f'["{name}", ', f'["{name}2", '))
    return graph | {f"{name.removesuffix('2')}2": node for name, node in other.items()}


def test_two_runs_in_one_prompt_make_two_videos(tab, graph_server):
    result = run(tab, two_runs("pair a", "pair b"))
    assert {"save", "save2"} <= result.outputs.keys()
    assert len(segments(graph_server, "pair a")) == len(segments(graph_server, "pair b")) == 3


def test_a_window_save_that_gets_the_clip_of_another_run_is_refused(tab, graph_server):
    graph = two_runs("crossed a", "crossed b")
    graph["save"]["inputs"]["images"], graph["save2"]["inputs"]["images"] = ["clip2", 0], ["clip", 0]
    with pytest.raises(ExecutionFailed, match="not made from what its Window Start hands out"):
        run(tab, graph)
    assert segments(graph_server, "crossed a") == segments(graph_server, "crossed b") == []


def test_another_speed_is_refused(tab, graph_server):
    graph = made_up_graph(run_name="speed")
    graph["create"] = {"class_type": "CreateVideo", "inputs": {"images": ["clip", 0], "fps": 24.0}}
    del graph["save"]["inputs"]["images"]
    graph["save"]["inputs"]["video"] = ["create", 0]
    with pytest.raises(
        ExecutionFailed, match="makes a video of 24 frames a second, and fps of Window Start is 16"
    ):
        run(tab, graph)
    assert segments(graph_server, "speed") == []


def test_known_frames_that_are_left_out_are_told(tab):
    graph = made_up_graph(run_name="left out", known_frames=5, window_length=17)
    cut = {"image": ["clip", 0], "batch_index": 4, "length": 13}
    graph["cut"] = {"class_type": "ImageFromBatch", "inputs": cut}
    graph["save"]["inputs"]["images"] = ["cut", 0]
    with pytest.raises(ExecutionFailed, match="give Window Save the whole clip with its known frames"):
        run(tab, graph)


def test_nodes_in_a_subgraph_are_repeated_like_others(tab, graph_server):
    """The frontend sends the nodes of a subgraph as "7:clip"."""
    text = json.dumps(made_up_graph(run_name="subgraph"))
    for name in ("start", "clip", "save"):
        text = text.replace(f'"{name}": {{"class_type"', f'"7:{name}": {{"class_type"').replace(
            f'["{name}", ', f'["7:{name}", '
        )
    result = run(tab, json.loads(text))
    assert len(result.outputs["7:save"]["magic141_windows"]) == 3


def test_a_bypassed_node_leaves_the_others_repeated(tab):
    graph = made_up_graph(run_name="bypassed")
    graph["scale"] = {"class_type": "ImageInvert", "inputs": {"image": ["clip", 0]}}
    graph["back"] = {"class_type": "ImageInvert", "inputs": {"image": ["scale", 0]}}
    graph["save"]["inputs"]["images"] = ["back", 0]
    whole = video_of(tab, run(tab, graph))
    bypassed = made_up_graph(run_name="bypassed")  # what the frontend sends of a bypassed node: nothing
    assert np.abs(whole.astype(int) - video_of(tab, run(tab, bypassed)).astype(int)).max() <= 1


def test_a_graph_that_is_changed_while_the_series_runs_waits_and_gets_its_own_folder(tab, graph_server):
    graph = made_up_graph(run_name="changed", clip={"seconds": 0.3})
    first = tab.queue(graph)
    wait_for_segments(graph_server, "changed", 1)
    graph["model"]["inputs"]["brightness"] = 0.003
    second = tab.queue(graph)
    for prompt_id in (first, second):
        assert history(tab, prompt_id)["status"]["completed"]
    assert len(segments(graph_server, "changed")) == 6


def test_a_cleared_queue_leaves_the_series_that_runs(tab, graph_server):
    first = tab.queue(made_up_graph(run_name="kept queue", clip={"seconds": 0.3}))
    waiting = tab.queue(made_up_graph(run_name="cleared", clip={"seconds": 0.3}))
    wait_for_segments(graph_server, "kept queue", 1)
    tab.post("/queue", {"clear": True})
    assert history(tab, first)["status"]["completed"]
    assert len(segments(graph_server, "kept queue")) == 3
    assert segments(graph_server, "cleared") == []
    assert not tab.get_json(f"/history/{waiting}")


def test_two_tabs_that_run_the_same_get_the_same_video_made_once(tab, graph_server):
    graph = made_up_graph(run_name="two tabs", clip={"seconds": 0.3})
    results: dict[str, np.ndarray] = {}

    def press_run(name: str) -> None:
        one = ComfyClient(graph_server.url)
        results[name] = video_of(one, run(one, graph))

    threads = [threading.Thread(target=press_run, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert np.array_equal(results["a"], results["b"])
    assert segments(graph_server, "two tabs") == ["0000.mkv", "0001.mkv", "0002.mkv"]


def test_a_window_that_stays_bad_ends_after_its_tries(tab):
    graph = made_up_graph(run_name="bad", save={"flash_limit": 0.001, "reroll_limit": 2})
    graph["schedule"] = {
        "class_type": "Magic141WindowSchedule",
        "inputs": {"window": ["start", 0], "schedule": "2-end: 0.98", "otherwise": "1"},
    }
    graph["clip"]["inputs"]["gain"] = ["schedule", 0]
    graph["show"] = {"class_type": "PreviewAny", "inputs": {"source": ["save", 3]}}
    report = json.loads(run(tab, graph).outputs["show"]["text"][0])
    assert [window["attempts"] for window in report["windows"]] == [1, 3, 3]


def test_the_two_nodes_run_inside_a_loop_of_the_host(tab, graph_server):
    """Newer hosts run the body of Start Loop as copies inside the prompt; every turn makes a long video."""
    inner = {name: node for name, node in made_up_graph(run_name="turn").items() if name != "model"}
    model = {"class_type": "TestMadeUpModel", "inputs": {"brightness": 0.0}}
    loop = {
        "class_type": "TestMadeUpLoop",
        "inputs": {"graph": json.dumps(inner), "times": 2, "model": ["model", 0]},
    }
    graph = {"model": model, "loop": loop}
    graph["show"] = {"class_type": "PreviewAny", "inputs": {"source": ["loop", 0]}}
    report = json.loads(run(tab, graph).outputs["show"]["text"][0])
    assert len(report["windows"]) == 3
    assert [segments(graph_server, f"turn {turn}") for turn in range(2)] == [
        ["0000.mkv", "0001.mkv", "0002.mkv"]
    ] * 2

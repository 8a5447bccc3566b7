"""Window Start and Window Save in a real ComfyUI: any graph between them becomes a long video."""

import io
import json

import numpy as np
import pytest
import torch
from magic141.model_patches.store.sound_pieces import read_sound
from magic141.tests.support.any_graph import (
    SLOTS,
    frames_of,
    kill,
    loads,
    made_up_graph,
    run,
    segments,
    video_of,
)
from magic141.tests.support.template_graphs import (
    OWN_TEMPLATES,
    TEMPLATES,
    small_graph,
    stock_file,
    write_wan,
)
from magic141.tools.client import ComfyClient, ExecutionFailed, Interrupted, PromptRejected
from magic141.tools.graph import workflow_to_prompt
from magic141.tools.templates import template


def test_one_prompt_makes_all_windows(tab, graph_server):
    seen: list[str] = []
    before = loads(graph_server) if (graph_server.base / "output" / "made_up_loads.json").exists() else 0
    graph = made_up_graph(run_name="three")
    graph["model"]["inputs"]["brightness"] = 0.001
    result = run(tab, graph, on_event=lambda kind, data: seen.append(kind))
    frames = video_of(tab, result)
    assert len(frames) == 13 + 12 + 12
    steps = np.abs(np.diff(frames.astype(int), axis=0)).mean((1, 2, 3))
    assert steps.min() > 1, "no frame is doubled"
    assert seen.count("execution_start") == seen.count("execution_success") == 1
    assert loads(graph_server) == before + 1
    assert segments(graph_server, "three") == ["0000.mkv", "0001.mkv", "0002.mkv"]
    prompts = [window["measures"] for window in result.outputs["save"]["magic141_windows"]]
    assert len(prompts) == 3


def test_queued_again_nothing_is_made_and_the_video_is_there(tab, graph_server):
    graph = made_up_graph(run_name="again")
    first = run(tab, graph)
    ran: list[str] = []
    second = run(
        tab,
        graph,
        on_event=lambda kind, data: ran.append(data.get("display_node", "")) if kind == "executing" else None,
    )
    assert np.array_equal(video_of(tab, first), video_of(tab, second))
    assert "clip" not in ran


def test_a_changed_prompt_remakes_its_window_and_later_ones(tab, graph_server):
    run(tab, made_up_graph(run_name="story"))
    folder = next((graph_server.base / "output" / "magic141_runs").glob("story-*"))
    times = [path.stat().st_mtime_ns for path in sorted((folder / "segments").iterdir())]
    run(tab, made_up_graph(run_name="story", prompts="one\nanother\nthree"))
    again = [path.stat().st_mtime_ns for path in sorted((folder / "segments").iterdir())]
    assert [old == new for old, new in zip(times, again, strict=True)] == [True, False, False]


def test_a_changed_graph_gets_a_folder_of_its_own(tab, graph_server):
    run(tab, made_up_graph(run_name="other"))
    graph = made_up_graph(run_name="other")
    graph["model"]["inputs"]["brightness"] = 0.002
    run(tab, graph)
    assert len(list((graph_server.base / "output" / "magic141_runs").glob("other-*"))) == 2


def test_cancel_keeps_what_is_finished_and_queueing_again_goes_on(tab, graph_server):
    graph = made_up_graph(run_name="cancelled", clip={"seconds": 2.0})

    def cancel(kind: str, data: dict) -> None:
        if (
            kind == "executing"
            and data.get("display_node") == "clip"
            and len(segments(graph_server, "cancelled")) == 1
        ):
            tab.interrupt()

    with pytest.raises(Interrupted):
        run(tab, graph, on_event=cancel)
    assert segments(graph_server, "cancelled") == ["0000.mkv"]
    again = video_of(tab, run(tab, graph))
    assert np.array_equal(
        again, video_of(tab, run(tab, made_up_graph(run_name="fresh", clip={"seconds": 2.0})))
    )


def test_after_a_kill_the_frames_are_the_same(servers_before, tab, graph_server):
    graph = made_up_graph(run_name="killed", clip={"seconds": 1.0}, known_frames=5)

    class Killed(Exception):
        pass

    server = servers_before()

    def kill_it(kind: str, data: dict) -> None:
        if kind == "executing" and data.get("display_node") == "clip" and segments(graph_server, "killed"):
            kill(server)
            raise Killed

    with pytest.raises(Killed):
        run(ComfyClient(server.url), graph, on_event=kill_it)
    resumed = video_of(tab, run(tab, graph))
    graph["start"]["inputs"]["run_name"] = "whole"
    assert np.array_equal(resumed, video_of(tab, run(tab, graph)))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("short", "came back with 12 frames; window_length is 13"),
        ("small", "came back as 32x32 pixels; the video is 64x64"),
        ("nan", r"no numbers \(NaN\)"),
        ("error", "the made-up model failed"),
    ],
)
def test_what_is_wrong_with_a_window_is_said_and_nothing_is_lost(tab, graph_server, fault, message):
    graph = made_up_graph(run_name=fault, clip={"fault": fault, "fault_in": 1})
    with pytest.raises(ExecutionFailed, match=message):
        run(tab, graph)
    assert segments(graph_server, fault) == ["0000.mkv"]


def test_a_graph_that_does_not_use_the_known_frames_is_told(tab):
    graph = made_up_graph(run_name="forgets", clip={"fault": "forgets", "fault_in": 1})
    graph["show"] = {"class_type": "PreviewAny", "inputs": {"source": ["save", 3]}}
    result = run(tab, graph)
    assert "Window 2: the clip does not begin with the frames it was given" in json.dumps(
        result.outputs["show"]
    )


def test_sound_of_every_window_is_joined_in_step_with_the_frames(tab):
    graph = made_up_graph(run_name="sound")
    links = {name: ["start", SLOTS[name]] for name in ("length", "fps", "index")}
    graph["sound"] = {"class_type": "TestMadeUpSound", "inputs": links}
    parts = {"images": ["clip", 0], "audio": ["sound", 0], "fps": ["start", SLOTS["fps"]]}
    graph["create"] = {"class_type": "CreateVideo", "inputs": parts}
    del graph["save"]["inputs"]["images"]
    graph["save"]["inputs"] |= {"video": ["create", 0], "codec": "h264 lossless"}
    result = run(tab, graph)
    data = tab.download(result.outputs["save"]["images"][0])
    sound = read_sound(io.BytesIO(data), rate=8000, channels=1)[0].float()
    assert len(frames_of(data)) == 37
    assert abs(len(sound) / 8000 - 37 / 16) < 0.2, "AAC rounds up to a block"
    starts = [round(frame / 16 * 8000) for frame in (0, 13, 25)]
    assert [pitch_hz(sound[start + 1000 : start + 5000], 8000) for start in starts] == [200, 400, 600]


def pitch_hz(samples: torch.Tensor, rate: int) -> int:
    strongest = int(torch.fft.rfft(samples).abs()[1:].argmax()) + 1
    return round(strongest * rate / len(samples) / 50) * 50


def test_a_video_is_continued_at_its_own_size_and_becomes_the_beginning(tab):
    first = run(tab, made_up_graph(run_name="before", width=96))
    graph = made_up_graph(run_name="after", known_frames=5, length=2.0, prompts="one")
    file = first.outputs["save"]["images"][0]
    graph["load"] = {
        "class_type": "LoadVideo",
        "inputs": {"file": f"{file['subfolder']}/{file['filename']} [output]"},
    }
    del graph["start"]["inputs"]["image"], graph["picture"]
    graph["start"]["inputs"]["video"] = ["load", 0]
    frames = video_of(tab, run(tab, graph))
    assert frames.shape == (37 + 8 + 8, 64, 96, 3)
    assert np.array_equal(frames[:37], video_of(tab, first))


def test_a_window_that_flashes_is_made_again_with_another_seed(tab):
    graph = made_up_graph(run_name="flash", clip={"fault": "flash", "fault_in": 1}, save={"flash_limit": 4.0})
    graph["save"]["inputs"]["reroll_limit"] = 20
    graph["show"] = {"class_type": "PreviewAny", "inputs": {"source": ["save", 3]}}
    report = json.loads(run(tab, graph).outputs["show"]["text"][0])
    assert [window["attempts"] > 1 for window in report["windows"]] == [False, True, False]
    assert abs(report["windows"][1]["measures"]["flash_brightness"]) < 0.04


def test_known_frames_that_come_back_the_same_blend_into_the_same_video(tab):
    plain = run(tab, made_up_graph(run_name="plain", known_frames=5))
    blended = run(tab, made_up_graph(run_name="blended", known_frames=5, save={"blend": 4}))
    frames, wanted = video_of(tab, blended).astype(int), video_of(tab, plain).astype(int)
    assert frames.shape == wanted.shape
    assert np.abs(frames - wanted).max() <= 1, "rounding alone"


def test_a_schedule_gives_each_window_its_own_value(tab):
    graph = made_up_graph(run_name="schedule", known_frames=1)
    lines = {"window": ["start", 0], "schedule": "2: 0.9", "otherwise": "1"}
    graph["schedule"] = {"class_type": "Magic141WindowSchedule", "inputs": lines}
    graph["clip"]["inputs"]["gain"] = ["schedule", 0]
    means = video_of(tab, run(tab, graph)).mean((1, 2, 3))
    assert means[12] == pytest.approx(means[0], rel=0.02)
    assert means[24] == pytest.approx(means[12] * 0.9**12, rel=0.05)
    assert means[36] == pytest.approx(means[24], rel=0.05)


def test_finished_windows_can_be_kept_when_the_graph_changes(tab, graph_server):
    graph = made_up_graph(run_name="kept", clip={"fault": "error", "fault_in": 2})
    with pytest.raises(ExecutionFailed):
        run(tab, graph)
    before = segments(graph_server, "kept")
    graph["clip"]["inputs"]["fault"] = "none"
    graph["model"]["inputs"]["brightness"] = -0.01
    graph["start"]["inputs"]["when_graph_changes"] = "keep finished windows"
    frames = video_of(tab, run(tab, graph))
    assert before == ["0000.mkv", "0001.mkv"]
    assert segments(graph_server, "kept") == ["0000.mkv", "0001.mkv", "0002.mkv"]
    means = frames.mean((1, 2, 3))
    assert means[24] == pytest.approx(means[0], rel=0.02)
    assert means[36] < means[24] - 20
    again = video_of(tab, run(tab, graph))
    assert np.array_equal(frames, again), "windows of both graphs are found again"


def test_the_embedded_graph_makes_the_frames_of_sliding_window_extend(tab, graph_server):
    """One known frame and pixel hand-over, stock nodes in between: the same video bit for bit."""
    info = tab.object_info()
    prompts = "a large cyan circle moves right\nit moves left"
    graph = workflow_prompt("magic141_any_graph_minute", info)
    start, save = inputs_of(graph, "Magic141WindowStart"), inputs_of(graph, "Magic141WindowSave")
    start |= {"prompts": prompts, "length": 3.0, "length_in": "windows", "run_name": "any graph"}
    save |= {"codec": "ffv1 lossless"}
    result = run(tab, only_before(graph, ("SaveVideo", "PreviewImage")))
    ours = next(output for output in result.outputs.values() if "magic141_windows" in output)
    extend = workflow_prompt("magic141_one_minute", info)
    widgets = inputs_of(extend, "Magic141SlidingWindowExtend")
    same = ("prompts", "length", "length_in", "window_length", "seed", "width", "height", "fps")
    widgets |= {name: start[name] for name in same}
    widgets |= {"hand_over": "pixel", "overlap": 1, "steps": 4, "color_anchor": 0.0, "turn_limit": 0.0}
    widgets |= {"codec": "ffv1 lossless", "run_name": "extend", "reroll_threshold": 0.0}
    widgets |= {"negative_prompt": "", "shift": 5.0, "sampler": "euler", "cfg": 1.0, "guidance": 6.0}
    result = run(tab, only_before(extend, ("SaveVideo", "PreviewImage")))
    theirs = next(output for output in result.outputs.values() if "magic141_windows" in output)
    made, wanted = (frames_of(tab.download(output["images"][0])) for output in (ours, theirs))
    assert len(wanted) == 13 + 12 + 12
    differing = [number for number in range(len(wanted)) if not np.array_equal(made[number], wanted[number])]
    assert differing == []


def workflow_prompt(name: str, info: dict) -> dict:
    return workflow_to_prompt(json.loads(template(name).read_text(encoding="utf-8")), info)


def inputs_of(graph: dict, class_type: str) -> dict:
    return next(node["inputs"] for node in graph.values() if node["class_type"] == class_type)


def only_before(graph: dict, class_types: tuple[str, ...]) -> dict:
    return {key: node for key, node in graph.items() if node["class_type"] not in class_types}


def test_the_hosts_template_and_ours_become_long_videos(tab, graph_server):
    """Wan 2.2 in four steps on small random weights: three windows, two experts, two LoRAs, either sampler."""
    of_host = [entry for entry in TEMPLATES if "wan2_2_14B_i2v" in entry.name and stock_file(entry).is_file()]
    templates = [
        of_host[-1],
        *(entry for entry in OWN_TEMPLATES if entry.name == "magic141_wan22_one_minute"),
    ]
    assert {entry.write_weights for entry in templates} == {write_wan}, "the server has these alone"
    for entry in templates:
        graph = small_graph(entry, tab.object_info(), graph_server.base)
        (save,) = (out for out in run(tab, graph).outputs.values() if "magic141_windows" in out)
        assert frames_of(tab.download(save["images"][0])).shape == (13 + 12 + 12, 64, 64, 3)


def without_save(graph: dict) -> None:
    graph["save"]["class_type"], graph["save"]["inputs"] = "PreviewImage", {"images": ["clip", 0]}


def with_two_saves(graph: dict) -> None:
    graph["save2"] = json.loads(json.dumps(graph["save"]))


def with_nothing_between(graph: dict) -> None:
    graph["save"]["inputs"]["images"] = ["start", 1]


def with_other_pictures(graph: dict) -> None:
    graph["save"]["inputs"]["images"] = ["picture", 0]


def with_a_muted_node(graph: dict) -> None:
    del graph["save"]["inputs"]["images"]


def with_a_linked_codec(graph: dict) -> None:
    graph["number"] = {"class_type": "PrimitiveInt", "inputs": {"value": 3}}
    graph["save"]["inputs"]["quality"] = ["number", 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_save, "No Window Save is connected"),
        (with_two_saves, "2 Window Save nodes"),
        (with_nothing_between, "nothing in between makes a clip"),
        (with_other_pictures, "not made from what its Window Start hands out"),
        (with_a_muted_node, "a node between Window Start and Window Save is muted"),
        (with_a_linked_codec, "quality of Window Save is connected to another node"),
    ],
)
def test_graphs_that_cannot_repeat_are_refused_before_anything_is_made(tab, graph_server, change, message):
    graph = made_up_graph(run_name="refused")
    change(graph)
    with pytest.raises(ExecutionFailed, match=message):
        run(tab, graph)
    assert segments(graph_server, "refused") == []


@pytest.mark.parametrize(
    ("widgets", "message"),
    [
        ({"known_frames": 13}, "would add nothing new"),
        ({"run_name": "a/b"}, "cannot be the name of a run"),
        ({"prompts": "[5-3] a"}, "Let the range end after it starts"),
    ],
)
def test_faults_of_the_widgets_are_said_before_the_run(tab, widgets, message):
    with pytest.raises(PromptRejected, match=message):
        run(tab, made_up_graph(**widgets))

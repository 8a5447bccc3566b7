"""The workflow files that artists open, run by a real ComfyUI."""

import io
import json
import tomllib
from pathlib import Path

import av
import pytest
from magic141.tests.support.real_templates import SETTINGS, VIDEO
from magic141.tools.client import PromptRejected
from magic141.tools.demo import cut_long_videos, videos_of
from magic141.tools.graph import (
    default_of,
    is_widget,
    link_as_dict,
    options_of,
    ordered_inputs,
    workflow_to_prompt,
)
from magic141.tools.server import PACK
from magic141.tools.templates import short_name

FILES = sorted((PACK / "workflows").glob("*.json"))
BLUEPRINTS = sorted((PACK / "subgraphs").glob("*.json"))
# These need weights that do not ship with the pack; a test below proves that nothing else is missing.
NEEDS_DOWNLOADS = {"magic141_after_any_t2i", "magic141_retrieval_guides_t2i", *SETTINGS}
# Minutes of video, or of training; test_sliding_window and test_distill run them shortened.
LONG = {
    "magic141_one_minute",
    "magic141_continue_video",
    "magic141_prompts_per_window",
    "magic141_distill_to_few_steps",
}
OLD = PACK / "tests" / "support" / "old_workflows" / "image_to_video_0_1.json"
EMBEDDED = [OLD, *(path for path in FILES if short_name(path) not in NEEDS_DOWNLOADS | LONG)]
DOWNLOADED = [path for path in FILES if short_name(path) in NEEDS_DOWNLOADS]


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def expected_widgets(info: dict, values: list) -> int:
    """Count the values the frontend writes for a node, companions and dynamic choices included."""
    remaining = list(values)

    def count(inputs: list) -> int:
        total = 0
        for name, spec in inputs:
            if not is_widget(spec):
                continue
            options = spec[1] if len(spec) > 1 else {}
            if options.get("hidden") and not remaining:
                continue  # a newer host keeps it for prompts of older ones; files of older ones hold no value
            value = remaining.pop(0) if remaining else default_of(spec, name)
            companion = any(
                options.get(name) for name in ("control_after_generate", "image_upload", "video_upload")
            )
            del remaining[:companion]
            total += 1 + companion
            total += sum(
                count(ordered_inputs(option)) for option in options_of(spec) if option["key"] == value
            )
        return total

    return count(ordered_inputs(info))


@pytest.mark.parametrize("path", FILES + BLUEPRINTS, ids=lambda path: path.stem)
def test_nodes_widgets_and_types_are_those_of_the_server(path, object_info):
    workflow = read(path)
    subgraphs = workflow.get("definitions", {}).get("subgraphs", [])
    for level in [workflow, *subgraphs]:
        check_level(level, object_info, known={"MarkdownNote", *(entry["id"] for entry in subgraphs)})


def check_level(level: dict, object_info: dict, known: set[str]) -> None:
    """Compare the nodes and links of one graph with the server's nodes; types in ``known`` are not the server's."""
    nodes = {node["id"]: node for node in level["nodes"]}
    for node in nodes.values():
        if node["type"] in known:
            continue
        info = object_info[node["type"]]
        names = {name for section in info["input"].values() for name in section}
        # an input that grows has names like values.a
        assert {entry["name"].partition(".")[0] for entry in node["inputs"]} <= names, node["type"]
        assert len(node["widgets_values"]) == expected_widgets(info, node["widgets_values"]), node["type"]
        assert len(node["outputs"]) <= len(info["output"]), "a newer host may have more"
        for output, kind in zip(node["outputs"], info["output"], strict=False):
            assert fits(output["type"], kind), node["type"]
    nodes[-10] = {"outputs": level.get("inputs", [])}
    nodes[-20] = {"inputs": level.get("outputs", [])}
    for link in map(link_as_dict, level["links"]):
        assert fits(nodes[link["origin_id"]]["outputs"][link["origin_slot"]]["type"], link["type"])
        assert fits(nodes[link["target_id"]]["inputs"][link["target_slot"]]["type"], link["type"])


def fits(given: str, wanted: str) -> bool:
    return "*" in (given, wanted) or bool(set(given.split(",")) & set(wanted.split(",")))


def uncached(prompt: dict, name: str) -> dict:
    """Change seeds and file names, so that nothing another test has run on this server is taken from its cache.

    Of a long video, the first seconds show all there is to see.
    """
    cut_long_videos(prompt, 1.5)
    for node in prompt.values():
        if node["class_type"] == "SaveVideo":
            node["inputs"]["filename_prefix"] = f"test/{name}"
        if isinstance(node["inputs"].get("seed"), int):
            node["inputs"]["seed"] += 141
    return prompt


@pytest.mark.parametrize("path", EMBEDDED, ids=lambda path: path.stem)
def test_it_makes_a_video_that_carries_its_workflow(path, client, object_info):
    workflow = read(path)
    steps, texts = [], []

    def on_event(kind: str, data: dict) -> None:
        if kind == "progress":
            steps.append((data["value"], data["max"]))
        if kind == "text":
            texts.append((prompt[data["node"]]["class_type"], data["text"]))

    prompt = uncached(workflow_to_prompt(workflow, object_info), path.stem)
    result = client.run(prompt, workflow=workflow, on_event=on_event)
    videos = videos_of(result)
    for video in videos:
        with av.open(io.BytesIO(client.download(video))) as container:
            assert json.loads(container.metadata["workflow"]) == workflow
            assert container.streams.video[0].average_rate == 24
            assert len(list(container.decode(video=0))) >= 13
    assert videos
    assert any(done == total for done, total in steps)
    said = [text for node, text in texts if node == "Magic141VLMImageEncode"]
    extended = [text for node, text in texts if node == "Magic141SlidingWindowExtend"]
    assert said or extended
    if said:
        assert "encoding the known frames" in said
        assert said[-1].startswith("done in ")
    if extended:
        assert extended[-1].endswith("windows are done")
    assert result.previews > 0


def test_the_registrys_own_tests_run_the_same_workflows():
    settings = tomllib.loads((PACK / "comfy-test.toml").read_text(encoding="utf-8"))["test"]
    assert settings["workflows"]["cpu"] == [path.name for path in EMBEDDED if path != OLD]


@pytest.mark.parametrize("path", DOWNLOADED, ids=lambda path: path.stem)
def test_of_a_workflow_for_other_weights_only_the_weights_are_missing(path, client, object_info):
    with pytest.raises(PromptRejected) as refused:
        client.run(workflow_to_prompt(read(path), object_info))
    messages = [text for texts in refused.value.node_errors.values() for text in texts]
    assert messages
    weights = (".safetensors", "clip-vit-large-patch14", VIDEO)
    assert [text for text in messages if not any(name in text for name in weights)] == []


def in_a_workflow(blueprint: dict) -> dict:
    """Return a workflow that gives a blueprint's node a picture and saves its video."""
    (node,) = blueprint["nodes"]
    node = {**node, "inputs": [{**entry} for entry in node["inputs"]]}
    kinds = [entry["type"] for entry in node["inputs"]]
    node["inputs"][kinds.index("IMAGE")]["link"] = 1
    video = [entry["type"] for entry in node["outputs"]].index("VIDEO")
    picture = {
        "id": 100,
        "type": "LoadImage",
        "inputs": [],
        "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [1]}],
        "widgets_values": ["magic141_example.png", "image"],
    }
    save = {
        "id": 101,
        "type": "SaveVideo",
        "inputs": [{"name": "video", "type": "VIDEO", "link": 2}],
        "outputs": [],
        "widgets_values": ["video/blueprint", "auto", "auto"],
    }
    links = [[1, 100, 0, node["id"], kinds.index("IMAGE"), "IMAGE"], [2, node["id"], video, 101, 0, "VIDEO"]]
    return {**blueprint, "nodes": [picture, node, save], "links": links}


@pytest.mark.parametrize("path", BLUEPRINTS, ids=lambda path: path.stem)
def test_a_blueprint_makes_a_video(path, client, object_info):
    prompt = uncached(workflow_to_prompt(in_a_workflow(read(path)), object_info), "blueprint")
    for node in prompt.values():
        if node["class_type"] == "Magic141SlidingWindowExtend":
            node["inputs"].update(length=1.0, steps=1)
    result = client.run(prompt, timeout=1800)
    assert videos_of(result)

"""The workflow files that artists open, run by a real ComfyUI."""

import io
import json
from pathlib import Path

import av
import pytest
from magic141.tests.support.client import PromptRejected
from magic141.tests.support.comfy_server import PACK
from magic141.tests.support.demo import videos_of
from magic141.tests.support.graph import default_of, is_widget, options_of, ordered_inputs, workflow_to_prompt

FILES = sorted((PACK / "workflows").glob("*.json"))
# These need weights that do not ship with the pack; a test below proves that nothing else is missing.
NEEDS_DOWNLOADS = {"magic141_after_any_t2i", "magic141_retrieval_guides_t2i"}
# Minutes of video; test_sliding_window runs them shortened.
LONG = {"magic141_one_minute", "magic141_continue_video", "magic141_prompts_per_window"}
EMBEDDED = [path for path in FILES if path.stem not in NEEDS_DOWNLOADS | LONG]
DOWNLOADED = [path for path in FILES if path.stem in NEEDS_DOWNLOADS]


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
            value = remaining.pop(0) if remaining else default_of(spec, name)
            companion = bool(options.get("control_after_generate") or options.get("image_upload"))
            del remaining[:companion]
            total += 1 + companion
            total += sum(
                count(ordered_inputs(option)) for option in options_of(spec) if option["key"] == value
            )
        return total

    return count(ordered_inputs(info))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_nodes_widgets_and_types_are_those_of_the_server(path, object_info):
    workflow = read(path)
    types = {node["id"]: node for node in workflow["nodes"]}
    for node in workflow["nodes"]:
        if node["type"] == "MarkdownNote":
            continue
        info = object_info[node["type"]]
        assert len(node["widgets_values"]) == expected_widgets(info, node["widgets_values"]), node["type"]
        for output, kind in zip(node["outputs"], info["output"], strict=True):
            assert fits(output["type"], kind), node["type"]
    for _, origin, slot, target, target_slot, kind in workflow["links"]:
        assert fits(types[origin]["outputs"][slot]["type"], kind)
        assert fits(types[target]["inputs"][target_slot]["type"], kind)


def fits(given: str, wanted: str) -> bool:
    return given == wanted or "*" in (given, wanted)


def uncached(prompt: dict, name: str) -> dict:
    """Change seeds and file names, so that nothing another test has run on this server is taken from its cache."""
    for node in prompt.values():
        if node["class_type"] == "SaveVideo":
            node["inputs"]["filename_prefix"] = f"test/{name}"
        if isinstance(node["inputs"].get("seed"), int):
            node["inputs"]["seed"] += 141
    return prompt


@pytest.mark.parametrize("path", EMBEDDED, ids=lambda path: path.stem)
def test_it_makes_a_video_that_carries_its_workflow(path, client, object_info):
    workflow = read(path)
    steps = []

    def on_event(kind: str, data: dict) -> None:
        if kind == "progress":
            steps.append((data["value"], data["max"]))

    prompt = uncached(workflow_to_prompt(workflow, object_info), path.stem)
    result = client.run(prompt, workflow=workflow, on_event=on_event)
    for video in videos_of(result):
        with av.open(io.BytesIO(client.download(video))) as container:
            assert json.loads(container.metadata["workflow"]) == workflow
            assert container.streams.video[0].average_rate == 24
            assert len(list(container.decode(video=0))) >= 13
    assert videos_of(result)
    assert (4, 4) in steps
    assert result.previews > 0


@pytest.mark.parametrize("path", DOWNLOADED, ids=lambda path: path.stem)
def test_of_a_workflow_for_other_weights_only_the_weights_are_missing(path, client, object_info):
    with pytest.raises(PromptRejected) as refused:
        client.run(workflow_to_prompt(read(path), object_info))
    messages = [text for texts in refused.value.node_errors.values() for text in texts]
    assert messages
    assert [
        text for text in messages if ".safetensors" not in text and "clip-vit-large-patch14" not in text
    ] == []

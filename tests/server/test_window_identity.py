"""Which runs of Sliding Window Extend go on in a real ComfyUI, and which are made anew: by what the artist set."""

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from magic141.tests.server.test_sliding_window import frames_of, made_video, only_window, prompt_of, window
from magic141.tools.client import ComfyClient, PromptRejected

OPTIONS = {"length": 2.0, "length_in": "windows", "steps": 1, "codec": "ffv1 lossless"}
GONE = {
    "latent_anchor": 0.5,
    "color_match": "whole picture",
    "first_frame_context": True,
    "reroll_limit": 7,
    "fusion_length": 9,
    "fusion_overlap": 2,
    "quality": 30,
    "png_sequence": True,
}


def graph_of(object_info: dict, run_name: str, **inputs) -> dict:
    """Return the one-minute workflow of two windows, with its report shown."""
    prompt = only_window(
        prompt_of("magic141_one_minute", object_info, **OPTIONS, run_name=run_name, **inputs)
    )
    key = next(key for key, node in prompt.items() if node["inputs"] is window(prompt))
    prompt["report"] = {"class_type": "PreviewAny", "inputs": {"source": [key, 3]}}
    return prompt


def patched(prompt: dict, class_type: str, **inputs) -> dict:
    """Return the prompt with a node between the model and the windows."""
    prompt = copy.deepcopy(prompt)
    model = window(prompt)["model"]
    name = "model1" if class_type.startswith("ModelMerge") else "model"
    prompt["patch"] = {"class_type": class_type, "inputs": {name: model, **inputs}}
    window(prompt)["model"] = ["patch", 0]
    return prompt


def folder_of(result, prompt: dict) -> str:
    return made_video(result, prompt)["subfolder"]


def report_of(result) -> dict:
    return json.loads(result.outputs["report"]["text"][0])


SLG = {"double_layers": "0", "single_layers": "0", "scale": 3.0, "end_percent": 1.0, "rescaling_scale": 0.0}


@pytest.mark.parametrize(
    ("class_type", "inputs", "name", "values"),
    [
        ("EasyCache", {"start_percent": 0.15, "end_percent": 0.95, "verbose": False}, "reuse_threshold", (0.2, 0.3)),
        ("RescaleCFG", {}, "multiplier", (0.7, 0.6)),
        ("SkipLayerGuidanceDiT", SLG, "start_percent", (0.01, 0.02)),
        ("ModelMergeSimple", {}, "ratio", (1.0, 0.5)),
    ],
)  # fmt: skip
def test_a_changed_number_before_the_model_makes_the_run_anew(
    client, object_info, class_type, inputs, name, values
):
    plain = graph_of(object_info, f"changed {class_type}")
    if class_type == "ModelMergeSimple":  # the model without its LoRA
        lora = plain[window(plain)["model"][0]]
        inputs = {"model2": lora["inputs"]["model"]}
    runs = []
    for value in (*values, values[0]):
        prompt = patched(plain, class_type, **inputs, **{name: value})
        runs.append(folder_of(client.run(prompt), prompt))
    assert runs[0] != runs[1]
    assert runs[0] == runs[2]


def renumbered(prompt: dict) -> dict:
    """Return the prompt with other ids and titles, as after a copy in the frontend."""
    ids = {key: f"{100 + number}:1" for number, key in enumerate(reversed(prompt))} | {"report": "report"}

    def value(given):
        return [ids[given[0]], given[1]] if isinstance(given, list) else given

    return {
        ids[key]: {
            "class_type": node["class_type"],
            "inputs": {name: value(given) for name, given in reversed(node["inputs"].items())},
            "_meta": {"title": f"mine {key}"},
        }
        for key, node in reversed(prompt.items())
    }


def test_an_unchanged_graph_goes_on_after_a_restart_under_other_ids_and_titles(servers_before, tab):
    prompt = graph_of(tab.object_info(), "restarted")
    first = folder_of(ComfyClient(servers_before().url).run(prompt), prompt)
    other = renumbered(prompt)
    result = tab.run(other)
    assert folder_of(result, other) == first
    assert "2 of 2 windows were finished by an earlier run." in report_of(result)["summary"]


def test_a_video_that_was_deleted_is_joined_again(client, server, object_info):
    prompt = graph_of(object_info, "deleted")
    made = made_video(client.run(prompt), prompt)
    path = server.base / "output" / made["subfolder"] / made["filename"]
    frames = frames_of(path)
    path.unlink()
    client.run(prompt)
    assert np.array_equal(frames_of(path), frames)
    shutil.rmtree(path.parent)
    client.run(prompt)
    assert np.array_equal(frames_of(path), frames)


def test_settings_that_are_gone_are_left_out_and_said(client, server, object_info):
    prompt = graph_of(object_info, "gone", hand_over="mixed")
    window(prompt).update(GONE)
    result = client.run(prompt)
    (said,) = [line for line in report_of(result)["summary"] if "no longer has these settings" in line]
    assert all(name in said for name in (*GONE, "hand_over 'mixed'"))
    plain = graph_of(object_info, "gone")
    assert folder_of(client.run(plain), plain) == folder_of(result, prompt)


def test_a_run_of_an_older_version_is_said_and_left_alone(client, server, object_info):
    old = Path(server.base) / "output" / "magic141_runs" / "older-12345678"
    (old / "windows").mkdir(parents=True)
    (old / "run.json").write_text(json.dumps({"format": 1, "settings": {"method": 2, "latent_anchor": 0.5}}))
    (old / "windows" / "0000.json").write_text("{}")
    prompt = graph_of(object_info, "older")
    summary = report_of(client.run(prompt))["summary"]
    assert any("older-12345678 was made by an older version" in line for line in summary)
    assert {path.name for path in old.rglob("*")} == {"run.json", "windows", "0000.json"}
    window(prompt)["length"] = 1.0
    assert not any("older version" in line for line in report_of(client.run(prompt))["summary"]), "said once"


def test_a_hand_over_that_never_was_is_refused(client, object_info):
    with pytest.raises(PromptRejected, match="Choose auto, latent, pixel"):
        client.run(graph_of(object_info, "never", hand_over="telepathy"))

"""Workflow files become the prompt that ComfyUI's own frontend would send."""

import pytest
from magic141.tools.graph import WorkflowError, workflow_to_prompt

INFO = {
    "Load": {"input": {"required": {"image": [["a.png", "b.png"], {"image_upload": True}]}}},
    "Sample": {
        "input": {
            "required": {
                "image": ["IMAGE"],
                "seed": ["INT", {"default": 0}],
                "steps": ["INT", {"default": 4}],
            },
            "optional": {"strength": ["FLOAT", {"default": 0.5}], "forced": ["INT", {"forceInput": True}]},
        },
        "input_order": {"required": ["image", "seed", "steps"], "optional": ["strength", "forced"]},
    },
    "Save": {
        "input": {
            "required": {
                "image": ["IMAGE"],
                "codec": [
                    "COMFY_DYNAMICCOMBO_V3",
                    {
                        "options": [
                            {"key": "auto", "inputs": {"required": {}}},
                            {"key": "h264", "inputs": {"required": {"crf": ["FLOAT", {"default": 23.0}]}}},
                        ]
                    },
                ],
                "name": ["STRING", {"default": "video"}],
            }
        }
    },
}


def node(number, kind, widgets=(), links=(), mode=0, out="IMAGE", **more):
    """Build a UI node; ``links`` are (input name, link id) pairs."""
    inputs = [{"name": name, "type": "IMAGE", "link": link} for name, link in links]
    outputs = [{"name": "out", "type": out, "links": []}]
    fields = {"id": number, "type": kind, "mode": mode, "inputs": inputs, "outputs": outputs}
    return {**fields, "widgets_values": list(widgets), **more}


def chain(middle, sample_mode=0):
    """Load -> middle -> Save, with the middle node as given."""
    return {
        "nodes": [
            node(1, "Load", ["b.png", "image"]),
            {**middle, "mode": sample_mode},
            node(3, "Save", ["auto", "film"], [("image", 2)]),
        ],
        "links": [[1, 1, 0, 2, 0, "IMAGE"], [2, 2, 0, 3, 0, "IMAGE"]],
    }


def sample(widgets=(7, "randomize", 4, 0.25)):
    return node(2, "Sample", widgets, [("image", 1)])


def test_widgets_follow_the_schema_and_companions_are_left_out():
    prompt = workflow_to_prompt(chain(sample()), INFO)
    assert prompt == {
        "1": {"class_type": "Load", "inputs": {"image": "b.png"}},
        "2": {"class_type": "Sample", "inputs": {"image": ["1", 0], "seed": 7, "steps": 4, "strength": 0.25}},
        "3": {"class_type": "Save", "inputs": {"image": ["2", 0], "codec": "auto", "name": "film"}},
    }


def test_a_widget_younger_than_the_file_takes_its_default():
    prompt = workflow_to_prompt(chain(sample((7, "fixed"))), INFO)
    assert prompt["2"]["inputs"] == {"image": ["1", 0], "seed": 7, "steps": 4, "strength": 0.5}


def test_a_dynamic_combo_brings_the_widgets_of_its_choice():
    workflow = chain(sample())
    workflow["nodes"][2]["widgets_values"] = ["h264", 18.0, "film"]
    inputs = workflow_to_prompt(workflow, INFO)["3"]["inputs"]
    assert inputs == {"image": ["2", 0], "codec": "h264", "codec.crf": 18.0, "name": "film"}


def test_a_linked_widget_takes_the_link():
    workflow = chain(sample())
    workflow["nodes"].append(node(4, "PrimitiveNode", [99, "fixed"]))
    workflow["nodes"][1]["inputs"].append(
        {"name": "seed", "type": "INT", "widget": {"name": "seed"}, "link": 5}
    )
    workflow["links"].append([5, 4, 0, 2, 1, "INT"])
    assert workflow_to_prompt(workflow, INFO)["2"]["inputs"]["seed"] == 99


def test_a_bypassed_node_passes_its_input_through():
    prompt = workflow_to_prompt(chain(sample(), sample_mode=4), INFO)
    assert set(prompt) == {"1", "3"}
    assert prompt["3"]["inputs"]["image"] == ["1", 0]


def test_a_muted_node_and_its_links_are_gone():
    prompt = workflow_to_prompt(chain(sample(), sample_mode=2), INFO)
    assert set(prompt) == {"1", "3"}
    assert "image" not in prompt["3"]["inputs"]


def test_notes_do_not_run_and_reroutes_are_followed():
    workflow = chain(node(2, "Reroute", (), [("", 1)], out="*"))
    workflow["nodes"].append(node(9, "MarkdownNote", ["hello"]))
    prompt = workflow_to_prompt(workflow, INFO)
    assert set(prompt) == {"1", "3"}
    assert prompt["3"]["inputs"]["image"] == ["1", 0]


def subgraph_workflow(inner_mode=0):
    """The middle of the chain is a subgraph that holds one Sample and promotes its seed."""
    inner = node(20, "Sample", [7, "fixed", 4, 0.25], [("image", 11)], mode=inner_mode)
    inner["inputs"].append({"name": "seed", "type": "INT", "widget": {"name": "seed"}, "link": 13})
    definition = {
        "id": "uuid-1",
        "inputs": [{"name": "picture", "type": "IMAGE"}, {"name": "seed", "type": "INT"}],
        "outputs": [{"name": "out", "type": "IMAGE"}],
        "nodes": [inner],
        "links": [
            {
                "id": 11,
                "origin_id": -10,
                "origin_slot": 0,
                "target_id": 20,
                "target_slot": 0,
                "type": "IMAGE",
            },
            {
                "id": 12,
                "origin_id": 20,
                "origin_slot": 0,
                "target_id": -20,
                "target_slot": 0,
                "type": "IMAGE",
            },
            {"id": 13, "origin_id": -10, "origin_slot": 1, "target_id": 20, "target_slot": 1, "type": "INT"},
        ],
    }
    outer = node(2, "uuid-1", [123], [("picture", 1)], properties={"proxyWidgets": [["-1", "seed"]]})
    return {**chain(outer), "definitions": {"subgraphs": [definition]}}


def test_a_subgraph_runs_inside_with_its_promoted_widget():
    prompt = workflow_to_prompt(subgraph_workflow(), INFO)
    assert set(prompt) == {"1", "2:20", "3"}
    assert prompt["2:20"]["inputs"] == {"image": ["1", 0], "seed": 123, "steps": 4, "strength": 0.25}
    assert prompt["3"]["inputs"]["image"] == ["2:20", 0]


def test_a_bypassed_node_inside_a_subgraph_leads_out_of_it():
    prompt = workflow_to_prompt(subgraph_workflow(inner_mode=4), INFO)
    assert prompt["3"]["inputs"]["image"] == ["1", 0]


def test_an_unknown_node_is_named():
    with pytest.raises(WorkflowError, match=r"Node 2 has the type 'Nonsense'"):
        workflow_to_prompt(chain(node(2, "Nonsense")), INFO)


def test_a_broken_link_is_named():
    workflow = chain(sample())
    workflow["links"].pop(0)
    with pytest.raises(WorkflowError, match=r"Link 1 is used but not defined"):
        workflow_to_prompt(workflow, INFO)

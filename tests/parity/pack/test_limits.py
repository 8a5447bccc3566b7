"""Every limit in a node's schema holds when the host checks a prompt, also for inputs that the node checks itself."""

import asyncio
import inspect
import math

import pytest
from magic141.tests.unit.web.test_sentences import in_chinese
from magic141.tools.host import use_comfyui

use_comfyui()

import execution
from comfy_api.latest import io
from magic141.nodes import Magic141Extension
from magic141.nodes.distill_inputs import METHODS

import nodes as host

NODES = {node.define_schema().node_id: node for node in asyncio.run(Magic141Extension().get_node_list())}
WIDGETS = (io.Int.Input, io.Float.Input, io.Combo.Input)


def bad_values(widget: io.Input) -> list:
    if isinstance(widget, io.Combo.Input):
        return ["no such choice", ""]
    low, high = widget.min, widget.max
    values = [] if high is None else [high + 1, 1_048_576 * (high + 1)]
    values += [] if low is None else [low - 1]
    if isinstance(widget, io.Float.Input):
        values += [math.nan, math.inf, -math.inf]
    return values


CASES = [
    pytest.param(name, widget.id, value, id=f"{name}-{widget.id}-{value}")
    for name, node in NODES.items()
    for widget in node.define_schema().inputs
    if isinstance(widget, WIDGETS)
    for value in bad_values(widget)
]


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    for name, node in NODES.items():
        monkeypatch.setitem(host.NODE_CLASS_MAPPINGS, name, node)


def usual_values(node: type[io.ComfyNode]) -> dict:
    values = {}
    for widget in node.define_schema().inputs:
        if isinstance(widget, io.Combo.Input):
            values[widget.id] = widget.default or next(iter(widget.options), "none")
        elif isinstance(widget, (*WIDGETS, io.String.Input, io.Boolean.Input)):
            values[widget.id] = "" if widget.default is None else widget.default
    return values


def faults(name: str, **values) -> dict[str, str]:
    """Return what the host says of one node's values, by input."""
    inputs = usual_values(NODES[name]) | values
    prompt = {"1": {"class_type": name, "inputs": inputs}}
    _, errors, _ = asyncio.run(execution.validate_inputs("prompt", prompt, "1", {}, []))
    said = [
        (error["extra_info"]["input_name"], f"{error['message']}: {error['details']}") for error in errors
    ]
    assert len({name for name, _ in said}) == len(said)
    return dict(said)


@pytest.mark.parametrize(("name", "widget", "value"), CASES)
def test_a_value_outside_its_limits_is_refused(name, widget, value):
    assert widget in faults(name, **{widget: value})


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (1_048_576, "width is 1048576; it can be 16 to 8192"),
        (8, "width is 8; it can be 16 to 8192"),
        (100, "width is 100 px; it must be a multiple of 16. The nearest is 96"),
    ],
)
def test_the_message_says_what_is_allowed(value, said):
    assert said in faults("Magic141VLMImageEncode", width=value)["width"]


def test_an_unknown_choice_is_named_with_those_there_are():
    said = faults("Magic141ImagePrior", source="neither")["source"]
    assert "source is 'neither', which is not a choice. Choose first connected, text-to-image, " in said


CFG_METHOD = next(label for label, method in METHODS.items() if method == "cfg")
MISTAKES = [
    ("Magic141VLMImageEncode", "width", {"width": 100}),
    ("Magic141VLMImageEncode", "height", {"height": 8200}),
    ("Magic141VLMImageEncode", "length", {"length": 80}),
    ("Magic141VLMImageEncode", "guidance", {"guidance": math.nan}),
    ("Magic141VLMImageEncode", "negative_prompt", {"negative_prompt": "a <image> b"}),
    ("Magic141SlidingWindowExtend", "overlap", {"window_length": 13, "overlap": 4}),
    ("Magic141SlidingWindowExtend", "prompts", {"prompts": "[5s-2s] a star"}),
    ("Magic141SlidingWindowExtend", "run_name", {"run_name": "CON"}),
    ("Magic141WindowStart", "known_frames", {"window_length": 13, "known_frames": 13}),
    ("Magic141WindowStart", "run_name", {"run_name": "../up"}),
    ("Magic141WindowSchedule", "schedule", {"schedule": "one: 1"}),
    ("Magic141BuildTrainingSet", "set_name", {"folder": ".", "set_name": "a/b"}),
    ("Magic141BuildTrainingSet", "width", {"folder": ".", "width": 100}),
    ("Magic141BuildImageIndex", "folder", {"folder": "no such folder"}),
    ("Magic141BuildImageIndex", "index_name", {"folder": ".", "index_name": "nul"}),
    ("Magic141DistillToFewSteps", "run_name", {"run_name": "a:b"}),
    ("Magic141DistillToFewSteps", "cfg", {"method": CFG_METHOD, "cfg": 1.0}),
    ("Magic141ImagePrior", "source", {"source": "neither"}),
]


@pytest.mark.parametrize(("name", "at_fault", "values"), MISTAKES)
def test_one_mistake_is_one_message_at_the_input_at_fault(name, at_fault, values):
    usual = faults(name)
    new = {widget: text for widget, text in faults(name, **values).items() if text != usual.get(widget)}
    assert list(new) == [at_fault]


@pytest.mark.parametrize("name", NODES)
def test_values_within_the_limits_give_no_fault_of_theirs(name):
    inputs = NODES[name].define_schema().inputs
    numbers = [each.id for each in inputs if isinstance(each, io.Int.Input | io.Float.Input)]
    said = " ".join(faults(name).values())
    assert not [widget for widget in numbers if f"{widget} is " in said]


def test_a_linked_value_is_left_to_the_run():
    own = NODES["Magic141VLMImageEncode"].validate_inputs
    names = inspect.getfullargspec(own).args[1:]
    assert own(**dict.fromkeys(names)) is True


def test_every_mistake_is_told_in_chinese():
    said = [faults(name, **values)[at_fault] for name, at_fault, values in MISTAKES]
    told = in_chinese(said)
    assert [english for english, chinese in zip(said, told, strict=True) if english == chinese] == []

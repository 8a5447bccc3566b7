"""A prompt in ComfyUI's API format, saved before an input was added, still runs: a newer input is optional."""

import json

import pytest
from magic141.tools.imports import ROOT
from magic141.tools.node_info import node_info

FIRST = json.loads((ROOT / "tests" / "support" / "required_inputs.json").read_text(encoding="utf-8"))
"""The required inputs that each node had in its first version."""


def test_every_node_is_listed():
    assert FIRST.keys() == node_info().keys(), (
        "list the required inputs of a new node in required_inputs.json"
    )


@pytest.mark.parametrize("node_id", FIRST)
def test_an_input_that_was_added_later_is_optional(node_id):
    required = node_info()[node_id]["input"].get("required", {})
    assert set(required) - set(FIRST[node_id]) == set()

"""Windows on the cards are told apart by their number and by where their prompts differ."""

import json
from pathlib import Path

import pytest
from magic141.tests.support.node_js import evaluate, needs_node

SCRIPT = Path(__file__).resolve().parents[3] / "web" / "prompt_labels.js"


def labels(prompts: list[str]) -> list[str]:
    return evaluate(SCRIPT, "windowLabels", f"windowLabels({json.dumps(prompts)})")


@needs_node
@pytest.mark.parametrize(
    ("prompts", "wanted"),
    [
        ([], []),
        (["a star moves"], ["1"]),
        (["a star moves"] * 2, ["1", "2"]),
        (["a star moves up fast", "a star moves down fast"], ["1 up", "2 down"]),
        (["a fox waits", "a fox waits", "a fox runs home"], ["1 waits", "2 waits", "3 runs home"]),
        (["a star", "a star moves"], ["1", "2 moves"]),
        (["a a", "a a a"], ["1", "2 a"]),
    ],
)
def test_a_label_is_the_number_and_what_differs(prompts, wanted):
    assert labels(prompts) == wanted

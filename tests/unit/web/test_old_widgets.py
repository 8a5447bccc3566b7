"""Widgets that older versions saved are put where the widgets are now; without Node.js the browser tests cover it."""

import json
from pathlib import Path

from magic141.tests.support.node_js import evaluate, needs_node
from magic141.tools.templates import template

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "web" / "old_widgets.js"
OLD = ROOT / "tests" / "support" / "old_workflows" / "one_minute_0_1.json"
TYPE = "Magic141SlidingWindowExtend"


def node_of(path: Path) -> dict:
    return next(n for n in json.loads(path.read_text(encoding="utf-8"))["nodes"] if n["type"] == TYPE)


def read_by_the_frontend(node: dict) -> dict:
    expression = f"withoutRemoved({json.dumps(node)}, savedWidgets({json.dumps(TYPE)}))"
    return evaluate(SCRIPT, "savedWidgets, withoutRemoved", expression)


@needs_node
def test_an_old_node_has_the_values_of_the_widgets_that_are_left():
    old, new = node_of(OLD), node_of(template("magic141_one_minute"))
    read = read_by_the_frontend(old)
    names = [i["name"] for i in read["node"]["inputs"]]
    assert names == [i["name"] for i in new["inputs"]][: len(names)], "newer inputs stand behind the old ones"
    assert read["node"]["widgets_values"][:2] == old["widgets_values"][:2]
    assert read["node"]["widgets_values"][16:] == ["auto", 0.75, 1.5, 15.0, "old workflow", "h265"]
    assert len(read["links"]) == 1


@needs_node
def test_a_new_node_is_left_as_it_is():
    node = node_of(template("magic141_one_minute"))
    assert read_by_the_frontend(node) == {"node": node, "links": []}

"""Nodes are placed without overlap, inside their groups, in the order of the file."""

import itertools
import json

import pytest
from magic141.tools.canvas import overlaps
from magic141.tools.layout import NODE_TITLE, place
from magic141.tools.templates import TITLES, template


def sizes(workflow: dict) -> dict[str, tuple[float, float]]:
    """Return some size for every node, other than that of the file."""
    heights = itertools.cycle((90, 700, 250, 40))
    return {str(node["id"]): (300 + 20 * (node["id"] % 4), next(heights)) for node in workflow["nodes"]}


@pytest.mark.parametrize("name", TITLES)
def test_no_node_lies_over_another_and_groups_hold_theirs(name):
    workflow = json.loads(template(name).read_text(encoding="utf-8"))
    needed = sizes(workflow)
    place(workflow, needed)
    boxes = {
        str(node["id"]): {
            "id": node["id"],
            "type": node["type"],
            "left": node["pos"][0],
            "top": node["pos"][1] - NODE_TITLE,
            "width": needed[str(node["id"])][0],
            "height": needed[str(node["id"])][1],
        }
        for node in workflow["nodes"]
    }
    assert overlaps(boxes) == []
    groups = [
        dict(zip(("left", "top", "width", "height"), group["bounding"], strict=True))
        for group in workflow["groups"]
    ]
    named = [group | {"id": index, "type": "group"} for index, group in enumerate(groups)]
    assert overlaps({str(group["id"]): group for group in named}) == []
    for box in boxes.values():
        holders = [g for g in groups if overlaps({"g": g | {"id": "g", "type": ""}, "n": box})]
        assert len(holders) <= 1
        for group in holders:
            assert group["left"] <= box["left"]
            assert box["left"] + box["width"] <= group["left"] + group["width"]
            assert box["top"] + box["height"] <= group["top"] + group["height"]


def test_a_second_time_changes_nothing():
    workflow = json.loads(template("magic141_wan22_one_minute").read_text(encoding="utf-8"))
    place(workflow, needed := sizes(workflow))
    once = json.dumps(workflow)
    place(workflow, needed)
    assert json.dumps(workflow) == once

"""Titles and notes are shown in another language, and a saved graph has those of the file or of the artist."""

import json
from pathlib import Path
from typing import Any

import pytest
from magic141.tests.support.node_js import evaluate, needs_node

SCRIPT = Path(__file__).resolve().parents[3] / "web" / "translated_graph.js"
TEXTS = {
    "own": {"titles": {"Models": "模型", "Read me": "说明", "3 Video": "视频", "4 Video": "视频"}},
    "notes": {"# Start here": "# 从这里开始"},
}
MAKE = f"""(() => {{
    const group = (title) => ({{ title, serialize() {{ return {{ title: this.title }}; }} }});
    const node = (type, title, ...values) => ({{
        type, title, widgets: values.map((value) => ({{ value }})),
        serialize() {{ return {{ title: this.title, widgets_values: this.widgets.map((widget) => widget.value) }}; }},
    }});
    const graph = {{
        groups: ["Models", "3 Video", "4 Video", "Mine"].map(group),
        nodes: [node("MarkdownNote", "Read me", "# Start here"), node("VAELoader", "Mine", "a.safetensors")],
    }};
    translateGraph(graph, {json.dumps(TEXTS)});
    return graph;
}})()"""
SAVED = "((graph) => [...graph.groups, ...graph.nodes].map((part) => part.serialize()))"


def from_graph(expression: str) -> Any:
    return evaluate(SCRIPT, "translateGraph", f"{expression}({MAKE})")


@needs_node
def test_titles_and_notes_are_shown_in_the_language():
    shown = from_graph("((graph) => [...graph.groups, ...graph.nodes].map((part) => part.title))")
    assert shown == ["模型", "视频", "视频", "Mine", "说明", "Mine"]
    assert from_graph("((graph) => graph.nodes[0].widgets[0].value)") == "# 从这里开始"


@needs_node
def test_what_is_saved_are_the_texts_of_the_file():
    saved = from_graph(SAVED)
    assert [part["title"] for part in saved] == ["Models", "3 Video", "4 Video", "Mine", "Read me", "Mine"]
    assert [part.get("widgets_values") for part in saved[4:]] == [["# Start here"], ["a.safetensors"]]


@needs_node
@pytest.mark.parametrize("part", ["groups[1]", "nodes[0]"])
def test_a_title_that_the_artist_wrote_is_saved(part):
    renamed = f"((graph) => {{ graph.{part}.title = '我的'; return graph.{part}.serialize().title; }})"
    assert from_graph(renamed) == "我的"


@needs_node
def test_a_note_that_the_artist_wrote_is_saved():
    written = "((graph) => { graph.nodes[0].widgets[0].value += '!'; return graph.nodes[0].serialize(); })"
    assert from_graph(written)["widgets_values"] == ["# 从这里开始!"]

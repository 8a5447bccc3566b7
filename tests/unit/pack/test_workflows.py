"""Every workflow and blueprint is sound by itself: links, versions, notes, and nothing of one machine."""

import json
import re
import tomllib
from pathlib import Path

import pytest
from magic141.tools.demo import LONG_VIDEOS
from magic141.tools.graph import link_as_dict
from magic141.tools.templates import TITLES, template

ROOT = Path(__file__).resolve().parents[3]
FILES = sorted((ROOT / "workflows").glob("*.json"))
BLUEPRINTS = sorted((ROOT / "subgraphs").glob("*.json"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

every_workflow = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
every_blueprint = pytest.mark.parametrize("path", BLUEPRINTS, ids=lambda path: path.stem)
every_graph = pytest.mark.parametrize("path", FILES + BLUEPRINTS, ids=lambda path: path.stem)


def levels(workflow: dict) -> list[dict]:
    """Return the workflow and its subgraphs: everything that holds nodes and links."""
    return [workflow, *workflow.get("definitions", {}).get("subgraphs", [])]


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_promised_workflows_are_there():
    promised = {"magic141_image_to_video", "magic141_prompt_to_image_to_video", "magic141_after_any_t2i"}
    assert promised <= TITLES.keys()


def test_every_workflow_has_a_short_name_and_a_title_in_order():
    assert list(TITLES.values()) == [path.stem for path in FILES]
    assert all(re.fullmatch(r"\d\d [A-Z0-9][\w .,()-]+", title) for title in TITLES.values())


@every_workflow
def test_app_mode_asks_for_what_matters_and_shows_the_video(path):
    workflow = read(path)
    nodes = {str(node["id"]): node for node in workflow["nodes"]}
    chosen = workflow["extra"]["linearData"]
    assert 1 <= len(chosen["inputs"]) <= 7
    for node, name in chosen["inputs"]:
        (entry,) = [entry for entry in nodes[node]["inputs"] if entry["name"] == name]
        assert entry["widget"]
        assert entry["link"] is None
    assert {nodes[node]["type"] for node in chosen["outputs"]} == {"SaveVideo"}


@every_graph
def test_links_and_slots_agree(path):
    for level in levels(read(path)):
        nodes = {node["id"]: node for node in level["nodes"]}
        assert len(nodes) == len(level["nodes"])
        links = {link["id"]: link for link in map(link_as_dict, level.get("links", []))}
        from_inputs = {
            (entry["link"], node["id"], slot)
            for node in nodes.values()
            for slot, entry in enumerate(node.get("inputs", []))
            if entry.get("link") is not None
        }
        from_outputs = {
            (link, node["id"], slot)
            for node in nodes.values()
            for slot, output in enumerate(node.get("outputs", []))
            for link in output.get("links") or []
        }
        inner = [link for link in links.values() if link["target_id"] != -20]
        assert from_inputs == {(link["id"], link["target_id"], link["target_slot"]) for link in inner}
        inner = [link for link in links.values() if link["origin_id"] != -10]
        assert from_outputs == {(link["id"], link["origin_id"], link["origin_slot"]) for link in inner}
        assert level.get("last_link_id", 0) >= max(links, default=0) or "state" in level


@every_graph
def test_our_nodes_tell_comfyui_where_they_come_from(path):
    ours = [
        node for level in levels(read(path)) for node in level["nodes"] if node["type"].startswith("Magic141")
    ]
    assert ours
    sources = {(node["properties"].get("cnr_id"), node["properties"].get("ver")) for node in ours}
    assert sources == {(PROJECT["name"], PROJECT["version"])}


@every_workflow
def test_the_video_goes_through_the_hosts_save_node_and_a_note_explains(path):
    kinds = {node["type"] for level in levels(read(path)) for node in level["nodes"]}
    assert {"SaveVideo", "MarkdownNote"} <= kinds
    assert all(group["title"] for group in read(path)["groups"])
    assert len(read(path)["groups"]) > 1


def test_the_readme_lists_every_workflow_and_the_weights_they_name_are_linked():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [title for title in TITLES.values() if f"| {title} |" not in readme] == []
    hints = [
        model
        for path in FILES
        for level in levels(read(path))
        for node in level["nodes"]
        for model in node["properties"].get("models", [])
    ]
    # an SDXL checkpoint is only an example of its kind
    named = {model["url"] for model in hints if "stable-diffusion-xl" not in model["url"]}
    assert named
    pages = readme + (ROOT / "docs" / "any_graph.md").read_text(encoding="utf-8")
    assert {url for url in named if f"({url})" not in pages} == set()


def test_videos_of_the_embedded_model_last_three_seconds_and_a_minute_has_several_prompts():
    made = {}
    for name in TITLES:
        nodes = read(template(name))["nodes"]
        if any("magic141_shapes_vae.safetensors" in node.get("widgets_values", []) for node in nodes):
            made[name] = [node["widgets_values"] for node in nodes if node["type"] in LONG_VIDEOS]
    assert len(made) > 8
    assert min(min((values[2] for values in windows), default=0) for windows in made.values()) >= 3
    minutes = [values[0] for windows in made.values() for values in windows if values[2] >= 60]
    assert min(len(prompts.splitlines()) for prompts in minutes) > 1


@every_graph
def test_no_path_of_one_machine_is_inside(path):
    text = path.read_text(encoding="utf-8")
    assert re.findall(r'"(?:/|~|[A-Za-z]:\\\\|\\\\\\\\)[^"]*"', text) == []
    assert not re.search(r"/home/|/root/|/Users/|C:\\\\", text)


def test_the_promised_blueprints_are_there():
    names = {path.stem for path in BLUEPRINTS}
    assert {"Image to Video (Magic141)", "One-Minute Video (Magic141)"} <= names


@every_blueprint
def test_a_blueprint_is_one_subgraph_node_as_the_node_library_wants_it(path):
    root = read(path)
    (node,) = root["nodes"]
    (definition,) = root["definitions"]["subgraphs"]
    assert node["type"] == definition["id"]
    assert node["title"] == definition["name"] == path.stem
    for side in ("inputs", "outputs"):
        told = [(entry["name"], entry["type"]) for entry in definition[side]]
        assert [(entry["name"], entry["type"]) for entry in node[side]] == told
        assert len(set(told)) == len(told)


@every_blueprint
def test_every_end_of_a_blueprint_is_connected_inside(path):
    (definition,) = read(path)["definitions"]["subgraphs"]
    links = {link["id"]: link for link in definition["links"]}
    for slot, entry in enumerate(definition["inputs"]):
        assert {(links[i]["origin_id"], links[i]["origin_slot"]) for i in entry["linkIds"]} == {(-10, slot)}
    for slot, entry in enumerate(definition["outputs"]):
        assert {(links[i]["target_id"], links[i]["target_slot"]) for i in entry["linkIds"]} == {(-20, slot)}

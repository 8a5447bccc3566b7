"""The pack in the real frontend: workflows, widgets, runs, help and our own widgets."""

import json
import shutil

import pytest
from magic141.tests.support.one_node import ADD
from magic141.tests.support.real_templates import files_named, real_templates
from magic141.tests.support.tiny_encoders import write_clip_folder
from magic141.tools.graph import BYPASSED
from magic141.tools.help_pages import DOCS
from magic141.tools.server import PACK

WORKFLOWS = sorted((PACK / "workflows").glob("*.json"))
BLUEPRINTS = sorted((PACK / "subgraphs").glob("*.json"))
OLD_WORKFLOW = PACK / "tests" / "support" / "old_workflows" / "one_minute_0_1.json"
CLIP = "tiny_browser_clip"
SET = """([name, value]) => {
    const widget = app.graph.nodes[0].widgets.find((entry) => entry.name === name);
    widget.value = value;
    widget.callback?.(value);
}"""
LIBRARY = """() => {
    const { $pinia } = document.querySelector("#vue-app").__vue_app__.config.globalProperties;
    const shown = Object.values($pinia._s.get("nodeDef").visibleNodeDefs);
    return shown.filter((entry) => entry.python_module === "blueprint").map((entry) => entry.display_name);
}"""
MISSING_MODELS = """() => {
    const { $pinia } = document.querySelector("#vue-app").__vue_app__.config.globalProperties;
    const found = $pinia._s.get("missingModel").missingModelCandidates ?? [];
    return found.filter((entry) => entry.isMissing).map(({ name, directory, url }) => ({ name, directory, url }));
}"""
"""What the frontend lists as missing, each with the download that it offers."""


@pytest.fixture(scope="module")
def clip(server):
    folder = server.base / "models/text_encoders" / CLIP
    write_clip_folder(folder)
    yield CLIP
    shutil.rmtree(folder)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_dropped_workflow_shows_every_node_and_widget(tab, path):
    nodes = tab.drop(path)
    tab.close_dialogs()
    written = {str(node["id"]): node for node in json.loads(path.read_text(encoding="utf-8"))["nodes"]}
    assert {node["id"] for node in nodes} == set(written)
    for node in nodes:
        wanted = {entry["name"] for entry in written[node["id"]].get("inputs", []) if "widget" in entry}
        assert wanted <= set(node["widgets"]), node["type"]
        assert node["known"], node["type"]


@pytest.mark.parametrize("path", real_templates(), ids=lambda path: path.stem)
def test_comfyui_offers_the_download_of_every_file_of_a_template_on_real_weights(tab, path):
    tab.drop(path)
    workflow = json.loads(path.read_text(encoding="utf-8"))
    workflow["nodes"] = [node for node in workflow["nodes"] if node["mode"] != BYPASSED]
    wanted = {(name, model["directory"], model["url"]) for name, model in files_named(workflow)}
    names = [name for name, _, _ in wanted]
    tab.wait_for(
        f"(names) => names.every((name) => ({MISSING_MODELS})().some((entry) => entry.name === name))", names
    )
    offered = tab.evaluate(MISSING_MODELS)
    tab.close_dialogs()
    assert {(entry["name"], entry["directory"], entry["url"]) for entry in offered} == wanted


def test_a_workflow_of_an_older_version_keeps_the_values_of_the_widgets_that_are_left(tab):
    tab.drop(OLD_WORKFLOW)
    tab.close_dialogs()
    node = "app.graph.nodes.find((node) => node.type === 'Magic141SlidingWindowExtend')"
    values = tab.evaluate(f"() => Object.fromEntries({node}.widgets.map((w) => [w.name, w.value]))")
    wanted = {"hand_over": "auto", "color_anchor": 0.75, "reroll_threshold": 1.5, "turn_limit": 15.0}
    wanted |= {"run_name": "old workflow", "codec": "h265", "seed": 1, "length": 1.0}
    assert {name: values[name] for name in wanted} == wanted
    assert "latent_anchor" not in tab.evaluate(f"() => {node}.inputs.map((input) => input.name)")
    links = tab.evaluate("() => app.graph.serialize().links.map((link) => [link[3], link[4], link[5]])")
    assert [link for link in links if link[2] == "FLOAT"] == []
    prompt = tab.evaluate("async () => (await app.graphToPrompt()).output")
    (inputs,) = [n["inputs"] for n in prompt.values() if n["class_type"] == "Magic141SlidingWindowExtend"]
    assert inputs.keys().isdisjoint({"latent_anchor", "png_sequence", "quality", "reroll_limit"})


@pytest.mark.parametrize("path", BLUEPRINTS, ids=lambda path: path.stem)
def test_a_blueprint_is_in_the_library_and_shows_its_widgets_once(tab, path):
    assert path.stem in tab.evaluate(LIBRARY)
    (node,) = tab.drop(path)
    tab.close_dialogs()
    (definition,) = json.loads(path.read_text(encoding="utf-8"))["definitions"]["subgraphs"]
    inner = {node["id"]: node for node in definition["nodes"]}
    promoted = {
        entry["name"]
        for entry in definition["inputs"]
        for link in definition["links"]
        if link["id"] in entry["linkIds"]
        and "widget" in inner[link["target_id"]]["inputs"][link["target_slot"]]
    }
    shown = [name for name in node["widgets"] if not name.startswith("$$")]
    assert sorted(shown) == sorted(promoted)
    values = tab.evaluate(
        "() => Object.fromEntries(app.graph.nodes[0].widgets.map((w) => [w.name, w.value]))"
    )
    assert values["width"] == 64
    assert values["model_name"] == "magic141_shapes_ti2v.safetensors"


def test_a_run_shows_progress_and_its_result_on_the_node(tab, clip):
    tab.evaluate(ADD, ["Magic141BuildImageIndex", {"folder": "magic141_examples/gallery", "clip": clip}])
    tab.evaluate(SET, ["index_name", "browser test"])
    tab.evaluate(
        """() => {
            window.seen = [];
            for (const name of ["progress", "progress_state", "executed"])
                app.api.addEventListener(name, () => window.seen.push(name));
            const onNode = () => app.graph.nodes[0].widgets.find((w) => w.name.startsWith("$$node-text"))?.value;
            app.api.addEventListener("progress_text", () => window.seen.push(onNode()));
            app.queuePrompt(0);
        }"""
    )
    tab.wait_for("() => document.querySelector('.magic141-text')?.textContent.includes('48 new')")
    seen = set(tab.evaluate("() => window.seen"))
    assert "executed" in seen
    assert seen & {"progress", "progress_state"}
    assert "embedding pictures: 100 %" in seen


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.md")), ids=lambda path: path.stem)
def test_a_help_page_is_served_where_the_frontend_looks(tab, path):
    module = tab.evaluate(
        "async (id) => (await (await fetch(`/object_info/${id}`)).json())[id].python_module", path.stem
    )
    pack = module.split(".")[1]
    script = "async (url) => { const reply = await fetch(url); return [reply.status, await reply.text()]; }"
    status, text = tab.evaluate(script, f"/extensions/{pack}/docs/{path.name}")
    assert status == 200
    assert text == path.read_text(encoding="utf-8")


def test_the_help_page_opens_in_the_interface(tab):
    tab.evaluate(ADD, ["Magic141ImagePrior", {}])
    tab.evaluate("() => { app.canvas.selectNode(app.graph.nodes[0]); app.canvas.setDirty(true, true); }")
    button = tab.page.locator("[data-testid=info-button], button:has(.icon-\\\\[lucide--info\\\\])").first
    button.dispatch_event("click")  # a busy machine may leave the frontend's loading curtain over the page
    tab.page.get_by_text("Expecting a fall-back when a branch fails.").first.wait_for()

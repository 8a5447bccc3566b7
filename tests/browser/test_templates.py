"""The workflow templates in the real frontend: order, layout before and after a run, app mode, old links."""

import json
from pathlib import Path

import pytest
from magic141.tools.canvas import first_view_scale, node_boxes, overlaps, show_results
from magic141.tools.layout import write_shown_video
from magic141.tools.templates import TITLES, template

SMALLEST_LETTERS = 0.571
"""Below this zoom the classic renderer draws no letters: they would be smaller than 8 pixels."""
STORE = """document.querySelector("#vue-app").__vue_app__.config.globalProperties.$pinia._s"""
APP_INPUTS = f"""() => {{
    const store = {STORE}.get("appMode");
    return [store.selectedInputs.length, store.selectedOutputs.length];
}}"""
FIRST_OPTION = """([type, name]) => {
    const node = LiteGraph.createNode(type);
    const widget = node.widgets.find((entry) => entry.name === name);
    return [widget.value, widget.options.values];
}"""
RUN_SHORT = """(seed) => {
    for (const node of app.graph.nodes) {
        const widget = (name) => node.widgets?.find((entry) => entry.name === name);
        if (node.type !== "Magic141SlidingWindowExtend") continue;
        widget("length").value = 0.5;
        widget("seed").value = seed;
        widget("prompts").value = widget("prompts").value.split("]").at(-1);
    }
    [window.ended, window.previews] = [null, 0];
    app.api.addEventListener("b_preview_with_metadata", () => (window.previews += 1));
    for (const name of ["execution_success", "execution_error"])
        app.api.addEventListener(name, () => (window.ended = name), { once: true });
    app.queuePrompt(0);
}"""
HAS_VIDEO = f"""() => {{
    const node = app.graph.nodes.find((entry) => entry.type === "Magic141SlidingWindowExtend");
    const shown = {STORE}.get("nodeOutput").getNodeImageUrls(node) ?? [];
    return shown.length === 1 && shown[0].includes(".mp4");
}}"""
TOP_PX = """() => {
    const { scale, offset } = app.canvas.ds;
    const parts = [...app.graph.nodes, ...app.graph.groups];
    const top = app.canvas.canvas.getBoundingClientRect().top;
    return top + Math.min(...parts.map((part) => (part.boundingRect[1] + offset[1]) * scale));
}"""
BUTTONS_END_PX = 90
"""The frontend's buttons lie over the top of the canvas, down to here."""


@pytest.fixture(scope="module")
def video(server) -> Path:
    folder = server.base / "output"
    folder.mkdir(exist_ok=True)
    return write_shown_video(folder)


@pytest.mark.parametrize("name", TITLES)
def test_nodes_lie_side_by_side_before_and_after_a_run(tab, vue, video, name):
    tab.drop(template(name))
    tab.close_dialogs()
    assert overlaps(node_boxes(tab)) == []
    show_results(tab, video)
    assert overlaps(node_boxes(tab)) == []


def test_a_real_run_ends_with_the_video_and_covers_nothing(tab, vue):
    tab.drop(template("magic141_image_to_video"))
    tab.close_dialogs()
    tab.evaluate(RUN_SHORT, 14 + vue)
    tab.wait_for("() => window.ended")
    assert tab.evaluate("() => window.ended") == "execution_success"
    assert tab.evaluate("() => window.previews") > 0
    tab.wait_for(HAS_VIDEO)
    assert overlaps(node_boxes(tab)) == []


@pytest.mark.parametrize("name", TITLES)
def test_letters_can_be_read_at_first_view_and_no_button_covers_the_graph(tab, name):
    assert first_view_scale(tab, template(name)) > SMALLEST_LETTERS
    assert tab.evaluate(TOP_PX) >= BUTTONS_END_PX
    tab.close_dialogs()


@pytest.mark.parametrize("name", TITLES)
def test_app_mode_finds_every_input_and_output_that_a_template_names(tab, name):
    wanted = json.loads(template(name).read_text(encoding="utf-8"))["extra"]["linearData"]
    tab.drop(template(name))
    tab.close_dialogs()
    counts = [len(wanted["inputs"]), len(wanted["outputs"])]
    tab.wait_for(f"(counts) => ({APP_INPUTS})().every((count, index) => count === counts[index])", counts)


def test_the_template_browser_lists_our_titles_in_order(tab):
    packs = tab.evaluate("async () => await app.api.getWorkflowTemplates()")
    (ours,) = [names for names in packs.values() if TITLES["magic141_image_to_video"] in names]
    assert ours == list(TITLES.values())


def test_a_stock_loader_does_not_begin_with_an_embedded_model(tab, server):
    mine = server.base / "models" / "vae" / "zz_my_vae.safetensors"
    mine.parent.mkdir(parents=True, exist_ok=True)
    mine.touch()
    try:
        tab.open(server.url)
        value, values = tab.evaluate(FIRST_OPTION, ["VAELoader", "vae_name"])
    finally:
        mine.unlink()
    assert not value.startswith("magic141_shapes")
    assert values[-1].startswith("magic141_shapes")


def test_a_link_with_a_short_name_opens_the_template(tab, server):
    tab.page.goto(
        f"{server.url}/?template=magic141_one_minute&source=magic141", wait_until="domcontentloaded"
    )
    title = json.loads(template("magic141_one_minute").read_text(encoding="utf-8"))["id"]
    tab.wait_for("(id) => window.app?.graph?.id === id", title)
    tab.open(server.url)
    # the frontend asks for a file of that name before our script takes the name out of the address
    tab.errors[:] = [text for text in tab.errors if "magic141_one_minute" not in text]


def test_a_template_opens_on_the_screen_of_a_phone(tab):
    tab.page.set_viewport_size({"width": 390, "height": 844})
    try:
        nodes = tab.drop(template("magic141_image_to_video"))
        tab.close_dialogs()
        assert all(node["known"] for node in nodes)
        assert overlaps(node_boxes(tab)) == []
    finally:
        tab.page.set_viewport_size({"width": 1600, "height": 1000})


def test_a_host_without_a_node_of_ours_says_which_one_is_missing(tab):
    workflow = json.loads(template("magic141_image_to_video").read_text(encoding="utf-8"))
    for node in workflow["nodes"]:
        if node["type"] == "Magic141SlidingWindowExtend":
            node["type"] = "Magic141OfTomorrow"
    tab.drop_text("tomorrow.json", json.dumps(workflow))
    tab.wait_for("() => document.body.textContent.includes('Magic141OfTomorrow')")
    tab.close_dialogs()

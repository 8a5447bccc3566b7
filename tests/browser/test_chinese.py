"""The interface in Chinese shows what the frontend does not translate of a pack itself."""

import json

import pytest
from magic141.tools.canvas import set_renderer
from magic141.tools.server import PACK
from magic141.tools.templates import template

TEXTS = json.loads((PACK / "locales" / "zh" / "main.json").read_text(encoding="utf-8"))["magic141"]
LOCALE = "(name) => app.extensionManager.setting.set('Comfy.Locale', name)"
SHOWN = """() => app.graph.nodes.map((node) => ({
    title: node.title,
    texts: (node.widgets ?? []).map((widget) => String(widget.value)),
    labels: (node.widgets ?? [])
        .map((widget) => widget.options)
        .flatMap((options) => (options?.getOptionLabel ? options.values.map(options.getOptionLabel) : [])),
}))"""
SAVED = "() => app.graph.serialize()"
HEARD = """(text) => new Promise((resolve) => {
    app.api.addEventListener("progress_text", ({ detail }) => resolve(detail.text), { once: true });
    app.api.dispatchCustomEvent("progress_text", { nodeId: "1", text });
})"""


def written(workflow: dict) -> set[str]:
    """Return what a workflow says in words: titles that are not a node's own, and notes."""
    titles = {part["title"] for part in workflow["groups"] + workflow["nodes"] if part.get("title")}
    return titles | {
        node["widgets_values"][0] for node in workflow["nodes"] if node["type"] == "MarkdownNote"
    }


@pytest.fixture(scope="module")
def chinese(tab, server):
    tab.evaluate(LOCALE, "zh")
    tab.page.wait_for_timeout(1000)
    tab.open(server.url)
    yield tab
    tab.evaluate(LOCALE, "en")
    tab.page.wait_for_timeout(1000)
    tab.open(server.url)


def test_titles_notes_and_choices_are_chinese(chinese):
    chinese.drop(template("magic141_int8_before_after"))
    chinese.close_dialogs()
    shown = chinese.evaluate(SHOWN)
    assert TEXTS["titles"]["Read me"] in {node["title"] for node in shown}
    assert TEXTS["notes"]["magic141_int8_before_after"] in {text for node in shown for text in node["texts"]}
    assert TEXTS["options"]["int4 weight-only"] in {label for node in shown for label in node["labels"]}
    groups = chinese.evaluate("() => app.graph.groups.map((group) => group.title)")
    assert set(groups) <= set(TEXTS["titles"].values())


@pytest.mark.parametrize("vue", [False, True], ids=["classic", "vue"])
def test_a_saved_workflow_keeps_the_texts_of_the_file(chinese, vue):
    set_renderer(chinese, vue=vue)
    path = template("magic141_int8_before_after")
    chinese.drop(path)
    chinese.close_dialogs()
    assert TEXTS["titles"]["Read me"] in {node["title"] for node in chinese.evaluate(SHOWN)}
    saved = [chinese.evaluate(SAVED), chinese.evaluate("async () => (await app.graphToPrompt()).workflow")]
    set_renderer(chinese, vue=False)
    assert [written(workflow) for workflow in saved] == [written(json.loads(path.read_text("utf-8")))] * 2


def test_a_choice_is_sent_as_the_server_knows_it(chinese):
    chinese.drop(template("magic141_int8_before_after"))
    prompt = chinese.evaluate("async () => (await app.graphToPrompt()).output")
    (inputs,) = [node["inputs"] for node in prompt.values() if node["class_type"] == "Magic141Int8Quantize"]
    assert inputs["mode"] in TEXTS["options"]


def test_progress_is_chinese(chinese):
    assert chinese.evaluate(HEARD, "reading the prompt") == TEXTS["progress"]["reading the prompt"]

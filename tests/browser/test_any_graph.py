"""Templates of any graph in the real frontend: one press of Run, cancel, resume, and the cards that fill."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from magic141.tests.browser.conftest import ARTEFACTS
from magic141.tests.support.any_graph import any_graph_server
from magic141.tools.browser import Tab
from magic141.tools.host import use_comfyui
from magic141.tools.templates import template

use_comfyui()

from magic141.tests.support.template_graphs import LENGTH, SIDE_PX, write_wan

SMALL = {"width": SIDE_PX, "height": SIDE_PX, "window_length": LENGTH}
START = "app.graph.nodes.find((node) => node.type === 'Magic141WindowStart')"
STRIP = f"{START}.magic141Cards"
COUNT = f"() => {STRIP}.cards.length"
FILLED = f"() => {STRIP}.states.filter((state) => state.state === 'done').length"
SET = """([type, values]) => {
    const node = app.graph.nodes.find((entry) => entry.type === type);
    for (const [name, value] of Object.entries(values)) {
        const widget = node.widgets.find((entry) => entry.name === name);
        widget.value = value;
        widget.callback?.(value);
    }
}"""
CANCEL_AFTER_ONE = f"""() => {{
    const strip = {STRIP};
    const show = strip.windows;
    strip.windows = (told) => {{
        show.call(strip, told);
        delete strip.windows;
        app.api.interrupt();
    }};
}}"""
LOOK_AT_IT = f"""() => {{
    const [x, y] = {START}.pos;
    app.canvas.ds.scale = 1;
    app.canvas.ds.offset = [150 - x, 100 - y];
    app.canvas.setDirty(true, true);
}}"""
WHY = f"() => {STRIP}.states.find((state) => state.state === 'stopped')?.why ?? ''"


@pytest.fixture(scope="module")
def wan_tab(tab, tmp_path_factory) -> Iterator[Tab]:
    """A page of a server that has small random weights under the names of the Wan templates."""
    base = tmp_path_factory.mktemp("wan")
    write_wan(base / "models")
    with any_graph_server(base) as server:
        page = tab.page.context.browser.new_page(viewport=tab.page.viewport_size)
        wan = Tab(page, ARTEFACTS)
        wan.open(server.url)
        yield wan
        page.close()


def test_one_press_of_run_fills_the_cards_and_a_cancelled_run_goes_on(tab):
    open_template(tab, template("magic141_any_graph_minute"))
    tab.evaluate(SET, ["Magic141WindowStart", {"prompts": "a large cyan circle moves right"}])
    run_cancel_and_resume(tab, "any_graph")


def test_so_it_is_with_the_template_of_wan(wan_tab):
    open_template(wan_tab, template("magic141_wan22_one_minute"))
    wan_tab.evaluate(SET, ["Magic141WindowStart", SMALL])
    wan_tab.evaluate(SET, ["Magic141WindowSave", {"flash_limit": 0}])  # noise of random weights flickers
    run_cancel_and_resume(wan_tab, "wan")
    assert wan_tab.errors == []


def open_template(tab: Tab, path: Path) -> None:
    tab.drop(path)
    tab.close_dialogs()


def run_cancel_and_resume(tab: Tab, name: str) -> None:
    """Make three windows of the graph that is open, canceled after the first; keep pictures of the page."""
    widgets = {"length": 3, "length_in": "windows", "run_name": f"browser {name}"}
    tab.evaluate(SET, ["Magic141WindowStart", widgets])
    tab.wait_for(f"() => ({COUNT})() === 3")
    assert tab.evaluate(FILLED) == 0
    tab.evaluate(LOOK_AT_IT)
    tab.evaluate(CANCEL_AFTER_ONE)
    tab.evaluate("() => app.queuePrompt(0)")
    tab.wait_for(f"() => ({FILLED})() >= 1")
    tab.wait_for(f"() => ({WHY})().includes('was not finished')")
    filled = tab.evaluate(FILLED)
    assert filled < 3
    tab.screenshot(f"{name}_cancelled")
    tab.evaluate("() => app.queuePrompt(0)")
    tab.wait_for(f"() => ({FILLED})() === 3")
    tab.screenshot(f"{name}_minute")

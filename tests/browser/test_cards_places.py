"""Cards on pages under a path that belong to several users: pictures, a failed run, windows kept, an end picture."""

import re
from collections.abc import Iterator

import pytest
from magic141.tests.browser.conftest import ARTEFACTS
from magic141.tests.support.any_graph import SLOTS, any_graph_server, frames_of, made_up_graph
from magic141.tests.support.cards_strip import STRIP, Strip
from magic141.tests.support.under_path import PATH, served_under_path
from magic141.tools.browser import Tab
from magic141.tools.canvas import set_renderer
from magic141.tools.server import ComfyServer

ADD_USER = """async (username) => {
    const reply = await fetch("api/users", { method: "POST", body: JSON.stringify({ username }) });
    localStorage["Comfy.userId"] = await reply.json();
    localStorage["Comfy.userName"] = username;
}"""
OPEN = "([graph, name]) => app.loadApiJson(graph, name)"
SET_CLIP = """(values) => {
    const node = app.graph.nodes.find((entry) => entry.type === "TestMadeUpClip");
    for (const [name, value] of Object.entries(values)) node.widgets.find((entry) => entry.name === name).value = value;
}"""
RESULT = f"(index) => {STRIP}.results.windows.get(index)"


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Iterator[ComfyServer]:
    with any_graph_server(tmp_path_factory.mktemp("place"), flags=("--multi-user",)) as server:
        yield server


@pytest.fixture(scope="module")
def pages(tab, place) -> Iterator[list[Tab]]:
    """A page each of two users, under a path."""
    browser = tab.page.context.browser
    with served_under_path(place.url) as address:
        contexts = [browser.new_context(viewport=tab.page.viewport_size) for _ in range(2)]
        yield [
            page_of(context, address, user) for context, user in zip(contexts, ("ada", "ben"), strict=True)
        ]
        for context in contexts:
            context.close()


def page_of(context, address: str, user: str) -> Tab:
    own = Tab(context.new_page(), ARTEFACTS)
    own.page.goto(address + "system_stats")
    own.evaluate(ADD_USER, user)
    own.open(address)
    return own


@pytest.fixture(params=[False, True], ids=["classic", "vue"])
def strips(pages, request) -> Iterator[list[Strip]]:
    """The same graph on the pages of both users."""
    name = re.sub(r"\W", " ", request.node.name).strip()
    graph = made_up_graph(run_name=name, save={"codec": "h264"})
    graph["clip"]["inputs"]["end_image"] = ["start", SLOTS["end_image"]]
    for own in pages:
        set_renderer(own, vue=request.param)
        own.evaluate(OPEN, [graph, name])
    yield [Strip(own) for own in pages]
    pages[0].screenshot(request.node.name)
    for own in pages:
        assert own.errors == []


def test_pictures_come_under_the_path_and_pages_of_other_users_keep_still(strips):
    ada, ben = strips
    ada.show()
    ada.run()
    ada.wait_for_states("done")
    ada.tab.wait_for("() => document.querySelector('.magic141-shot video')?.readyState >= 2")
    shown = ada.page.locator(".magic141-shot video").first.get_attribute("src")
    assert shown.startswith(f"{PATH}/api/view?")
    assert ben.states == ["waiting"] * 3
    ben.set(prompts="other")
    ben.run()
    ben.wait_for_states("done")
    assert ada.states == ["done"] * 3
    assert ada.tab.evaluate(RESULT, 0)["prompt"] == "one"


def test_a_failed_run_is_said_on_its_card_and_the_next_run_clears_it(strips):
    strip = strips[0]
    strip.tab.evaluate(SET_CLIP, {"fault": "error", "fault_in": 1})
    strip.show()
    strip.run()
    strip.wait_for_states("done", "failed", "waiting")
    failed = strip.page.locator(".magic141-card[data-state=failed] .magic141-shot")
    assert "the made-up model failed" in failed.get_attribute("title")
    strip.tab.screenshot("cards_failed")
    strip.tab.close_dialogs()
    strip.tab.evaluate(SET_CLIP, {"fault": "none"})
    strip.run()
    strip.wait_for_states("done")


def test_later_windows_are_kept_and_say_how_far_their_start_is(strips):
    strip = strips[0]
    strip.show()
    strip.run()
    strip.wait_for_states("done")
    strip.set(prompts=f"{strip.box}\n[window 2] seed 6\n[keep later] 100")
    assert strip.states == ["done", "stale", "stale"]
    strip.run()
    strip.wait_for_states("done")
    kept = strip.tab.evaluate(RESULT, 2)
    assert kept["kept"]
    assert kept["start_difference"] > 0
    assert "its start has moved" in strip.card(3).locator(".magic141-shot").get_attribute("title")


def test_a_window_ends_on_the_picture_that_was_dropped_on_its_card(strips, place):
    strip = strips[0]
    strip.show()
    strip.drop_picture(2)
    shown = strip.card(2).locator(".magic141-end img")
    assert shown.get_attribute("src").startswith(f"{PATH}/api/view?")
    strip.run()
    strip.wait_for_states("done")
    file = strip.tab.evaluate(RESULT, 1)["file"]
    frames = frames_of((place.base / "output" / file["subfolder"] / file["filename"]).read_bytes())
    spread = frames.std(axis=(1, 2)).max(axis=1)  # of a frame over its places
    assert spread[-1] < 3
    assert spread[0] > 20

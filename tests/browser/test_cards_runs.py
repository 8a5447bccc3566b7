"""Cards while windows are made: a stranger's way through a minute, takes, reload, a deleted folder, a lost server."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from magic141.tests.browser.conftest import ARTEFACTS
from magic141.tests.support.cards_strip import STRIP, Strip
from magic141.tools.browser import Tab
from magic141.tools.canvas import set_renderer
from magic141.tools.server import ComfyServer
from magic141.tools.templates import template

PROMPTS = [
    f"a large yellow star on a black background at the center moves {way}" for way in ("up", "left", "down")
]
NUM_WINDOWS = 6
"""So many that a run can be canceled before its end."""
OTHER = "a large cyan circle on a black background at the center moves right"


@pytest.fixture
def minute(tab, vue, request) -> Strip:
    """The one-minute template, cut to a few windows, in a run folder of its own."""
    return open_minute(tab, re.sub(r"\W", " ", request.node.name).strip())


def open_minute(tab: Tab, name: str) -> Strip:
    tab.drop(template("magic141_one_minute"))
    tab.close_dialogs()
    strip = Strip(tab)
    strip.set(length=NUM_WINDOWS, length_in="windows", steps=2, run_name=name, prompts=PROMPTS[0])
    strip.show()
    return strip


def segment(server: ComfyServer, strip: Strip, index: int) -> Path:
    file = strip.tab.evaluate(f"(index) => {STRIP}.results.windows.get(index).file", index)
    return server.base / "output" / file["subfolder"] / file["filename"]


def test_a_stranger_directs_a_minute_by_clicks(minute, server, vue):
    name = "vue" if vue else "classic"
    for number, text in enumerate(PROMPTS, start=1):
        minute.prompt(number).click()
        minute.page.keyboard.press("Control+a")
        minute.page.keyboard.type(text)
    minute.tool("for all later")
    assert minute.prompts == [*PROMPTS, *PROMPTS[2:] * 3]
    minute.run()
    minute.tab.wait_for(f"() => {STRIP}.states[1].state === 'done'")
    minute.cancel()
    minute.tab.wait_for(f"() => {STRIP}.states.some(({{ state }}) => state === 'stopped')")
    minute.tab.screenshot(f"cards_{name}_canceled")
    stopped = minute.page.locator(".magic141-card[data-state=stopped] .magic141-shot")
    title = stopped.get_attribute("title") or ""
    assert re.search(r"was not finished\. Windows kept: \d, in .+unfinished_", title)
    assert minute.states[:2] == ["done", "done"]
    first = segment(server, minute, 1).read_bytes()

    minute.prompt(2).fill(OTHER)
    assert minute.states[:2] == ["done", "stale"]
    minute.run()
    minute.wait_for_states("done")
    assert segment(server, minute, 1).read_bytes() != first
    minute.tab.screenshot(f"cards_{name}_another_take")

    minute.card(2).get_by_role("button", name="Use the other").click()
    assert minute.prompts[:3] == PROMPTS
    assert minute.states[:3] == ["done", "chosen", "stale"]
    minute.card(2).get_by_role("button", name="Use the other").click()
    assert minute.states == ["done"] * NUM_WINDOWS
    minute.card(2).get_by_role("button", name="Use the other").click()
    minute.tab.wait_for("() => document.querySelector('[data-state=chosen] video')?.readyState >= 2")
    minute.tab.screenshot(f"cards_{name}_chosen")
    minute.run()
    minute.wait_for_states("done")
    assert segment(server, minute, 1).read_bytes() == first
    assert minute.tab.evaluate(f"() => {STRIP}.results.numKept") >= 2
    minute.tab.screenshot(f"cards_{name}_finished")


def test_redo_makes_one_window_again_with_a_seed_of_its_own(minute):
    minute.run()
    minute.wait_for_states("done")
    minute.choose(2)
    minute.tool("^Make window 2 again")
    seed = minute.card(2).locator(".magic141-seed").input_value()
    assert minute.box.endswith(f"[window 2] seed {seed}")
    minute.tab.wait_for(f"(seed) => {STRIP}.results.windows.get(1).seed === seed", seed)
    minute.wait_for_states("done")
    assert minute.tab.evaluate(f"() => {STRIP}.results.windows.get(1).takes.length") == 1


def test_nothing_jumps_while_a_run_goes_on(minute):
    script = f"() => {{ const {{ width, height }} = {STRIP}.root.getBoundingClientRect(); return [width, height]; }}"
    before = minute.tab.evaluate(script)
    minute.run()
    minute.tab.wait_for(f"() => {STRIP}.states[0].state === 'done'")
    assert minute.tab.evaluate(script) == before
    minute.wait_for_states("done")
    assert minute.tab.evaluate(script) == before


def test_cards_stay_after_a_reload_and_say_when_files_are_deleted_under_the_page(minute, server, vue):
    minute.run()
    minute.wait_for_states("done")
    folder = segment(server, minute, 0).parents[1]
    workflow = minute.tab.evaluate("() => JSON.stringify(app.graph.serialize())")
    minute.tab.open(server.url)
    set_renderer(minute.tab, vue=vue)
    minute.tab.drop_text("kept.json", workflow)
    minute.show()
    minute.wait_for_states("done")
    minute.page.wait_for_function("() => document.querySelector('.magic141-shot video')?.readyState >= 2")

    shutil.rmtree(folder)
    minute.tab.evaluate("() => window.dispatchEvent(new Event('focus'))")  # back from the manager of files
    on_screen = f"() => {STRIP}.states.slice(0, 3).every(({{ state }}) => state === 'gone')"
    minute.tab.wait_for(on_screen)
    minute.choose(1)
    minute.page.keyboard.press("End")
    minute.wait_for_states("gone")
    minute.tab.screenshot(f"cards_{'vue' if vue else 'classic'}_gone")
    minute.run()
    minute.wait_for_states("done")
    # the browser notes a file that is not there
    minute.tab.errors[:] = [text for text in minute.tab.errors if "404" not in text]


@pytest.fixture
def own_server(tmp_path) -> Iterator[ComfyServer]:
    with ComfyServer(tmp_path / "own") as server:
        yield server


def test_a_server_that_ends_and_comes_back_leaves_a_page_that_goes_on(tab, own_server):
    page = tab.page.context.browser.new_page(viewport=tab.page.viewport_size)
    own = Tab(page, ARTEFACTS)
    own.open(own_server.url)
    strip = open_minute(own, "lost")
    strip.run()
    own.wait_for(f"() => {STRIP}.states[0].state === 'done'")
    own_server.stop()
    with own_server:
        own.wait_for(f"() => {STRIP}.states.some(({{ state }}) => state === 'stopped')")
        stopped = strip.page.locator(".magic141-card[data-state=stopped] .magic141-shot")
        assert "Run again" in (stopped.get_attribute("title") or "")
        own.screenshot("cards_server_lost")
        away = "Failed to load resource: net::ERR_"  # of a server that ends in an answer or is away
        assert [error for error in own.errors if not error.startswith(away)] == []
        own.errors.clear()
        strip.run()
        strip.wait_for_states("done")
        assert own.errors == []
    page.close()

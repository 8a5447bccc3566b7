"""Headless Chromium in front of a real ComfyUI. Without a browser the tests are skipped, or fail where CI needs one."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from magic141.tests.server.conftest import server  # noqa: F401  (a fixture)
from magic141.tools.browser import Tab, find_chromium, open_tab
from magic141.tools.canvas import LAYOUT, set_renderer

ARTEFACTS = Path(__file__).resolve().parents[2] / "out" / "browser"
HOW = "Install it with `apt-get install chromium` and `pip install playwright`, then run these tests again."


@pytest.fixture(scope="session")
def tab(server) -> Iterator[Tab]:  # noqa: F811
    """One page with the frontend loaded; its screenshots and console are kept."""
    chromium = find_chromium()
    if chromium is None:
        message = f"No Chromium on this machine: the browser tests did not run. {HOW}"
        if os.environ.get("MAGIC141_REQUIRE_BROWSER") or os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    pytest.importorskip("playwright.sync_api", reason=HOW)
    with open_tab(server.url, chromium, ARTEFACTS) as tab:
        yield tab


@pytest.fixture(autouse=True)
def no_errors_of_ours(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test during which one of our scripts put an error on the console."""
    tab = request.getfixturevalue("tab")
    before = len(tab.errors)
    yield
    tab.screenshot(request.node.name)
    assert tab.errors[before:] == []


@pytest.fixture(scope="module", params=[False, True], ids=["classic", "vue"])
def renderer(tab, request) -> Iterator[bool]:
    """Draw nodes with one of the frontend's two renderers, in all tests of a file before the other comes."""
    set_renderer(tab, vue=request.param)
    yield request.param
    set_renderer(tab, vue=False)


@pytest.fixture
def vue(tab, renderer) -> bool:
    """Begin on an empty canvas that the renderer has drawn; Vue does not show a node that comes as another goes."""
    tab.evaluate("() => app.graph.clear()")
    tab.wait_until_still(LAYOUT)
    return renderer

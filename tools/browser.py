"""A browser tab with ComfyUI's real frontend, driven by tests and by the programs that take pictures."""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
# The frontend asks for <NodeId>/<language>.md, and for <NodeId>.md if there is none; the browser logs the 404.
NO_TRANSLATED_PAGE = re.compile(r"/docs/\w+/[A-Za-z-]+\.md$")
SLOW_MS = 600_000  # a busy machine without a GPU draws slowly
NEW_USER_MS = 2000  # a moment after the graph is there, a new user is shown the templates
STILL = """async () => {
    const look = () => JSON.stringify((%s)());
    const until = performance.now() + 1000;
    let seen = look();
    for (let same = 0; same < 20 && performance.now() < until; same += 1) {
        await new Promise(requestAnimationFrame);
        const now = look();
        if (now !== seen) [seen, same] = [now, -1];
    }
}"""

DROP = """([name, text]) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([text], name, { type: "application/json" }));
    const target = document.querySelector("canvas#graph-canvas, canvas");
    const box = target.getBoundingClientRect();
    const place = { clientX: box.x + box.width / 2, clientY: box.y + box.height / 2 };
    const options = { bubbles: true, cancelable: true, dataTransfer: transfer, ...place };
    for (const kind of ["dragenter", "dragover", "drop"]) target.dispatchEvent(new DragEvent(kind, options));
}"""
NODES = """() => app.graph.nodes.map((node) => ({
    id: String(node.id), type: node.type, title: node.title, known: Boolean(LiteGraph.registered_node_types[node.type]),
    widgets: (node.widgets ?? []).map((widget) => widget.name),
}))"""


def find_chromium() -> str | None:
    """Return the browser of this machine, if it has one."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


def chromium_for(purpose: str) -> str:
    """Return the browser of this machine.

    Args:
        purpose: what cannot be done without it, as a clause.

    Raises:
        SystemExit: there is none.
    """
    chromium = find_chromium()
    if chromium is None:
        raise SystemExit(f"No Chromium: {purpose}. apt-get install chromium")
    return chromium


class Tab:
    """A page with the frontend loaded.

    Attributes:
        errors: errors on the console that are ours: from our scripts, or naming the pack.
        all_errors: all errors on the console.
    """

    def __init__(self, page, artifacts: Path) -> None:
        self.page, self.artifacts = page, artifacts
        self.errors: list[str] = []
        self.all_errors: list[str] = []
        page.set_default_timeout(SLOW_MS)
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self._note(str(error), getattr(error, "stack", "") or ""))

    def _on_console(self, message) -> None:
        if message.type == "error":
            self._note(message.text, message.location.get("url", ""))

    def _note(self, text: str, where: str) -> None:
        if NO_TRANSLATED_PAGE.search(where):
            return
        self.all_errors.append(f"{text} ({where})")
        if re.search(r"magic141|/extensions/main/", f"{text} {where}", re.IGNORECASE):
            self.errors.append(f"{text} ({where})")

    def evaluate(self, script: str, argument: object = None):
        return self.page.evaluate(script, argument)

    def wait_for(self, script: str, argument: object = None) -> None:
        self.page.wait_for_function(script, arg=argument, timeout=SLOW_MS, polling=50)

    def wait_until_still(self, script: str) -> None:
        """Wait until a script has returned the same for 20 frames, at most for a second."""
        self.evaluate(STILL % script)

    def open(self, url: str) -> None:
        """Load the frontend and wait until it knows our nodes and scripts and has a workflow open."""
        seen_before = self.page.request.get(f"{url.rstrip('/')}/settings/Comfy.TutorialCompleted")
        self.page.goto(url, wait_until="domcontentloaded")
        self.wait_for("() => window.app?.graph && window.LiteGraph?.registered_node_types?.Magic141LoadModel")
        self.wait_for("() => app.extensions?.some((extension) => extension.name === 'magic141.nodes')")
        self.wait_for("() => app.extensionManager.workflow.activeWorkflow && !app.extensionManager.spinner")
        self.evaluate("() => app.extensionManager.setting.set('Comfy.TutorialCompleted', true)")
        # not ok: a server with several users knows none without a name
        if not (seen_before.ok and seen_before.json()):
            self.page.wait_for_timeout(NEW_USER_MS)
        self.close_dialogs()

    def drop(self, path: Path) -> list[dict]:
        """Drop a workflow file onto the canvas; return the nodes of the graph."""
        return self.drop_text(path.name, path.read_text(encoding="utf-8"))

    def drop_text(self, name: str, text: str) -> list[dict]:
        self.evaluate("() => app.graph.clear()")
        self.evaluate(DROP, [name, text])
        self.wait_for("(count) => app.graph.nodes.length >= count", len(json.loads(text)["nodes"]))
        return self.nodes()

    def nodes(self) -> list[dict]:
        return self.evaluate(NODES)

    def close_dialogs(self) -> None:
        """Close what the frontend may have opened over the canvas (templates, missing models)."""
        for _ in range(2):
            self.page.keyboard.press("Escape")

    def screenshot(self, name: str) -> Path:
        """Save a screenshot under a file name made from ``name``."""
        self.artifacts.mkdir(parents=True, exist_ok=True)
        path = self.artifacts / f"{re.sub(r'[^A-Za-z0-9_-]+', '_', name)}.png"
        self.page.screenshot(path=path, timeout=SLOW_MS)
        return path


def _answer_with(script: str, route) -> None:
    route.fulfill(body=script, content_type="text/javascript")


@contextmanager
def open_tab(
    url: str, chromium: str, artifacts: Path, *, replaced: dict[str, str] | None = None
) -> Iterator[Tab]:
    """Start Chromium, open the frontend and close everything afterwards.

    Args:
        replaced: scripts to give the page in place of the server's, by a pattern of their address.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        try:
            tab = Tab(browser.new_page(viewport={"width": 1600, "height": 1000}), artifacts)
            for pattern, text in (replaced or {}).items():
                tab.page.route(pattern, partial(_answer_with, text))
            tab.open(url)
            yield tab
        finally:
            browser.close()

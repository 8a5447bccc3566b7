"""How long a page takes for a node with sixty cards beside the same without, and how smoothly one is dragged."""

import statistics
from pathlib import Path

from magic141.tools.browser import Tab, open_tab
from magic141.tools.canvas import set_renderer
from magic141.tools.server import ComfyServer

NUM_CARDS = 60
NO_CARDS = "export function addStrip() {}\nexport function passToStrip() {}\n"
MAKE = """(count) => {
    app.graph.clear();
    const node = LiteGraph.createNode("Magic141SlidingWindowExtend");
    app.graph.add(node);
    const prompts = Array.from({ length: count }, (_, index) => `a fox walks, part ${index + 1}`).join("\\n");
    for (const [name, value] of Object.entries({ prompts, length: count, length_in: "windows" }))
        node.widgets.find((widget) => widget.name === name).value = value;
    node.setSize([1200, node.computeSize()[1]]);
    return JSON.stringify(app.graph.serialize());
}"""
LOAD_MS = """async ([graph, selector]) => {
    const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));
    app.graph.clear();
    for (let count = 0; count < 5; count += 1) await frame();
    const start = performance.now();
    await app.loadGraphData(JSON.parse(graph), true, false);
    app.canvas.ds.scale = 1;
    app.canvas.ds.offset = [60, 100];
    while (!document.querySelector(selector)) await frame();
    await frame();
    await new Promise((resolve) => setTimeout(resolve)); // what waits is done: a click would be heard
    return performance.now() - start;
}"""
BOX, CARD = "textarea", ".magic141-card[aria-posinset='5'] textarea"
ROLL = """() => {
    app.canvas.ds.offset[1] += 600 - document.querySelector(".magic141-cards").getBoundingClientRect().top;
    app.canvas.setDirty(true, true);
}"""
COUNT_FRAMES = """() => {
    window.frames141 = [];
    let before = performance.now();
    const note = (now) => {
        window.frames141.push(now - before);
        before = now;
        window.counting141 = requestAnimationFrame(note);
    };
    window.counting141 = requestAnimationFrame(note);
}"""
STOCK = """() => {
    const [size, pos] = [app.graph.nodes[0].size, app.graph.nodes[0].pos].map((pair) => [...pair]);
    app.graph.clear();
    const node = LiteGraph.createNode("CLIPTextEncode");
    app.graph.add(node);
    node.pos = pos;
    node.setSize(size);
    const box = document.createElement("div");
    box.style.cssText = "position:fixed;left:300px;top:500px;width:176px;height:144px;background:#345;z-index:9999";
    document.body.append(box);
    box.addEventListener("pointerdown", (press) => {
        box.setPointerCapture(press.pointerId);
        box.addEventListener("pointermove", (move) => {
            box.style.transform = `translateX(${move.clientX - press.clientX}px)`;
        });
        box.addEventListener("pointerup", () => box.remove());
    });
}"""
"""Takes a node of the frontend's own, as large as ours, and puts a plain box that can be dragged over it."""
STOP_COUNTING = "() => { cancelAnimationFrame(window.counting141); return window.frames141.slice(2); }"


def cards_figures(server: ComfyServer, chromium: str, artifacts: Path, *, repeats: int) -> dict[str, float]:
    """Return the milliseconds that sixty cards add until a page can be used, and those of a frame of a drag.

    Beside the latter stand those of a plain box that is dragged over a node of the frontend's own.
    """
    figures = {}
    for vue in (False, True):
        name = "vue" if vue else "classic"
        with open_tab(server.url, chromium, artifacts) as tab:
            with_cards = load_ms(tab, CARD, vue=vue, repeats=repeats)
            figures[f"cards_drag_frame_ms_60_{name}"] = drag_frame_ms(tab)
            figures[f"stock_drag_frame_ms_{name}"] = stock_drag_frame_ms(tab)
        with open_tab(server.url, chromium, artifacts, replaced={"**/cards/strip.js*": NO_CARDS}) as tab:
            without = load_ms(tab, BOX, vue=vue, repeats=repeats)
        figures[f"cards_interactive_ms_60_{name}"] = with_cards - without
    figures["cards_interactive_ms_60"] = max(
        figures[f"cards_interactive_ms_60_{n}"] for n in ("classic", "vue")
    )
    return {key: round(value, 1) for key, value in figures.items()}


def load_ms(tab: Tab, selector: str, *, vue: bool, repeats: int) -> float:
    """Return the median time in which the graph is loaded and what the selector names is on the page."""
    set_renderer(tab, vue=vue)
    graph = tab.evaluate(MAKE, NUM_CARDS)
    times = [tab.evaluate(LOAD_MS, [graph, selector]) for _ in range(repeats + 1)]
    return statistics.median(times[1:])


def drag_frame_ms(tab: Tab) -> float:
    """Return the median time of a frame while a card of sixty is dragged."""
    tab.evaluate(ROLL)
    tab.page.wait_for_timeout(500)
    box = tab.page.locator(".magic141-card[aria-posinset='1'] .magic141-shot").bounding_box()
    assert box is not None
    return frame_ms(tab, box["x"] + 30, box["y"] + 30)


def stock_drag_frame_ms(tab: Tab) -> float:
    """Return the same for a plain box over a node that is not ours: what the frontend takes by itself."""
    tab.evaluate(STOCK)
    tab.page.wait_for_timeout(1000)
    return frame_ms(tab, 330, 530)


def frame_ms(tab: Tab, x: float, y: float) -> float:
    """Return the median time of a frame while what is at a place of the page is dragged to the right."""
    tab.page.mouse.move(x, y)
    tab.page.mouse.down()
    tab.page.mouse.move(x + 10, y)
    tab.evaluate(COUNT_FRAMES)
    tab.page.mouse.move(x + 700, y, steps=70)
    frames = tab.evaluate(STOP_COUNTING)
    tab.page.mouse.up()
    return statistics.median(frames)

"""The cards on a node, for browser tests that see and use them as people do."""

import re

from magic141.tests.support.one_node import ADD
from magic141.tools.browser import Tab

EXTEND = "Magic141SlidingWindowExtend"
NODE = "app.graph.nodes.find((node) => node.magic141Cards)"
STRIP = f"{NODE}.magic141Cards"
SET = f"""(values) => {{
    for (const [name, value] of Object.entries(values)) {{
        const widget = {NODE}.widgets.find((entry) => entry.name === name);
        widget.value = value;
        widget.callback?.(value);
    }}
}}"""
VALUES = f"() => Object.fromEntries({NODE}.widgets.map((widget) => [widget.name, widget.value]))"
LOOK = f"""() => {{
    const node = {NODE};
    node.setSize([720, node.size[1]]);
    app.canvas.bringToFront(node);
    app.canvas.ds.scale = 1;
    app.canvas.ds.offset = [60 - node.pos[0], -node.pos[1]];
    app.canvas.setDirty(true, true);
}}"""
ROLL = f"""() => {{
    app.canvas.ds.offset[1] += 560 - {STRIP}.root.getBoundingClientRect().top;
    app.canvas.setDirty(true, true);
}}"""
PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
"""A PNG of one pixel."""
NAME = f"an end <b> & 'quote' \u05e9\u05dc\u05d5\u05dd {'long ' * 25}.png"
DROP = """(card, [picture, name]) => {
    const transfer = new DataTransfer();
    const bytes = Uint8Array.from(atob(picture), (letter) => letter.charCodeAt(0));
    transfer.items.add(new File([bytes], name, { type: "image/png" }));
    for (const kind of ["dragenter", "dragover", "drop"])
        card.dispatchEvent(new DragEvent(kind, { bubbles: true, cancelable: true, dataTransfer: transfer }));
}"""
PLACE = f"""() => {{
    const {{ x, y, width, height }} = {STRIP}.root.getBoundingClientRect();
    return [x, y, width, height];
}}"""
STATES = f"() => {STRIP}.states.map((state) => state.state)"


class Strip:
    """The cards of the one node on the canvas, for a test that sees and uses them as people do."""

    def __init__(self, tab: Tab) -> None:
        self.tab, self.page = tab, tab.page

    def open(self, **values: object) -> None:
        given = {"length": 20.0, "prompts": "a fox waits\na fox runs\na fox sleeps"} | values
        self.tab.evaluate(ADD, [EXTEND, given])
        self.show()

    def show(self) -> None:
        """Put the node where its cards can be seen."""
        self.tab.evaluate(LOOK)
        self.page.locator(".magic141-card").first.wait_for(state="attached")
        self.tab.wait_until_still(PLACE)
        self.tab.evaluate(ROLL)
        self.tab.wait_until_still(PLACE)

    def set(self, **values: object) -> None:
        self.tab.evaluate(SET, values)

    def card(self, number: int):
        return self.page.locator(f".magic141-card[aria-posinset='{number}']")

    def prompt(self, number: int):
        return self.card(number).locator("textarea")

    def tool(self, name: str) -> None:
        self.page.locator(".magic141-tools").get_by_role("button", name=re.compile(name)).click()

    def choose(self, number: int) -> None:
        self.card(number).locator(".magic141-shot").click(position={"x": 40, "y": 40})

    def drop_picture(self, number: int) -> None:
        """Drop a picture on a card, and wait until the box names it."""
        self.card(number).evaluate(DROP, [PICTURE, NAME])
        self.tab.wait_for(f"(index) => {STRIP}.cards[index].end_picture", number - 1)

    @property
    def values(self) -> dict:
        return self.tab.evaluate(VALUES)

    @property
    def box(self) -> str:
        return self.values["prompts"]

    @property
    def prompts(self) -> list[str]:
        return self.tab.evaluate(f"() => {STRIP}.cards.map((card) => card.prompt)")

    @property
    def summary(self) -> str:
        return self.page.locator(".magic141-summary").inner_text()

    @property
    def states(self) -> list[str]:
        return self.tab.evaluate(STATES)

    def wait_for_states(self, *wanted: str) -> None:
        """Wait until the cards are in these states; the last one goes on to the end."""
        script = f"(wanted) => ({STATES})().every((state, i) => state === (wanted[i] ?? wanted.at(-1)))"
        self.tab.wait_for(script, wanted)

    def run(self) -> None:
        self.page.get_by_test_id("queue-button").click()

    def cancel(self) -> None:
        self.page.get_by_role("button", name="Cancel current run").click()

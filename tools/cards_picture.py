"""The picture of the cards in ``docs/directing.md``, taken from the real frontend while it makes a short video.

Run as ``python3 dev.py remake cards_picture`` when the look of the cards has changed; needs Chromium.
"""

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

from .browser import Tab, chromium_for, open_tab
from .canvas import set_renderer
from .server import PACK, temporary_server
from .templates import template

FILE = PACK / "docs" / "images" / "cards.png"
COLORS = 128
WIDTH = 770
NODE = "app.graph.nodes.find((node) => node.magic141Cards)"
STORY = {
    "length": 4,
    "length_in": "windows",
    "run_name": "picture of the cards",
    "prompts": "\n".join(
        f"a large yellow star on a black background at the center moves {way} fast"
        for way in ("up left", "right", "down", "up")
    ),
}
TELL = f"""([story, width]) => {{
    const node = {NODE};
    for (const [name, value] of Object.entries(story)) {{
        const widget = node.widgets.find((entry) => entry.name === name);
        widget.value = value;
        widget.callback?.(value);
    }}
    for (const other of app.graph.nodes) if (other !== node) other.pos = [other.pos[0], other.pos[1] - 9000];
    node.setSize([width, node.size[1]]);
    app.canvas.ds.scale = 1;
    app.canvas.ds.offset = [100 - node.pos[0], -node.pos[1]];
    app.canvas.setDirty(true, true);
}}"""
ROLL = f"""() => {{
    app.canvas.ds.offset[1] += 400 - {NODE}.magic141Cards.root.getBoundingClientRect().top;
    app.canvas.setDirty(true, true);
}}"""
HALF_WAY = f"() => {NODE}.magic141Cards.states.filter(({{ state }}) => state === 'done').length >= 2"
PLAYS = "() => [...document.querySelectorAll('.magic141-shot video')].filter((v) => v.readyState >= 2).length >= 2"


def take(tab: Tab) -> bytes:
    """Return a screenshot of the cards of a video that is half made."""
    set_renderer(tab, vue=True)
    tab.drop(template("magic141_one_minute"))
    tab.close_dialogs()
    tab.evaluate(TELL, [STORY, WIDTH])
    tab.page.wait_for_timeout(1000)
    tab.evaluate(ROLL)
    tab.evaluate("() => app.queuePrompt(0)")
    tab.wait_for(HALF_WAY)
    tab.wait_for(PLAYS)
    return tab.page.locator(".magic141-cards").screenshot()


def main() -> int:
    chromium = chromium_for("no picture can be taken")
    with (
        temporary_server() as server,
        tempfile.TemporaryDirectory() as scratch,
        open_tab(server.url, chromium, Path(scratch)) as tab,
    ):
        picture = Image.open(io.BytesIO(take(tab))).convert("RGB").quantize(COLORS)
    FILE.parent.mkdir(exist_ok=True)
    picture.save(FILE, optimize=True)
    print(f"{FILE.relative_to(PACK)}: {FILE.stat().st_size // 1000} KB")
    return 0


if __name__ == "__main__":
    sys.exit(main())

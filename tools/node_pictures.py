"""Pictures of the nodes for their help pages: ``web/docs/images/<NodeId>.png``, taken from the real frontend.

Run as ``python3 dev.py remake pictures [NODE ...]`` when the inputs or outputs of a node have changed; needs Chromium.
Each picture holds a digest of what it shows, by which ``stale`` finds the ones to take again.
"""

import argparse
import hashlib
import io
import sys
import tempfile
from pathlib import Path

from PIL import Image, PngImagePlugin

from .browser import chromium_for, open_tab
from .node_info import inputs_of, node_info
from .server import PACK, temporary_server

IMAGES = PACK / "web" / "docs" / "images"
KEY = "shows"
COLORS = 128
LEFT, TOP, MARGIN, WIDTH = 500, 120, 12, 360
VIEWPORT = {"width": 1600, "height": 1800}
"""Tall enough for the largest node."""

NO_BADGES = "() => app.extensionManager.setting.set('Comfy.NodeBadge.NodeSourceBadgeMode', 'None')"
SHOW = """([type, id, left, top, width]) => {
    app.graph.clear();
    const node = LiteGraph.createNode(type);
    node.id = id;  // with the id of an earlier node it would get the values of that node's widgets
    app.graph.add(node);
    const [least, height] = node.computeSize();
    node.setSize([Math.max(width, least), height]);
    const space = app.canvas.ds;
    space.scale = 1;
    space.offset = [left - node.pos[0], top - node.pos[1]];
    app.canvas.setDirty(true, true);
}"""
PLACE = """([left, top, margin]) => {
    const node = app.graph.nodes[0], box = app.canvas.canvas.getBoundingClientRect();
    const title = LiteGraph.NODE_TITLE_HEIGHT;
    return {
        x: box.x + left - margin, y: box.y + top - title - margin,
        width: node.size[0] + 2 * margin, height: node.size[1] + title + 2 * margin,
    };
}"""


def digest(info: dict) -> str:
    """Return a short digest of what is visible of a node: title, inputs and outputs with their types."""
    kinds = [(name, "choice" if isinstance(spec[0], list) else spec[0]) for name, spec, _ in inputs_of(info)]
    outputs = list(zip(info["output_name"], info["output"], strict=True))
    return hashlib.sha256(repr((info["display_name"], kinds, outputs)).encode()).hexdigest()[:16]


def shown_by(path: Path) -> str:
    """Return the digest that a picture holds, or ""."""
    if not path.is_file():
        return ""
    with Image.open(path) as picture:
        return picture.info.get(KEY, "")


def stale() -> list[str]:
    """Return the nodes whose picture is missing or does not show their inputs and outputs."""
    return [name for name, info in node_info().items() if shown_by(IMAGES / f"{name}.png") != digest(info)]


def take(names: list[str]) -> list[Path]:
    """Take the pictures of these nodes and return their files."""
    infos, files = node_info(), []
    chromium = chromium_for("no pictures can be taken")
    with (
        temporary_server() as server,
        tempfile.TemporaryDirectory() as scratch,
        open_tab(server.url, chromium, Path(scratch)) as tab,
    ):
        tab.page.set_viewport_size(VIEWPORT)
        tab.evaluate(NO_BADGES)
        for number, name in enumerate(names):
            tab.evaluate(SHOW, [name, 1000 + number, LEFT, TOP, WIDTH])
            tab.page.wait_for_timeout(1500)  # drawn once more after its own widgets have been laid out
            shot = tab.page.screenshot(clip=tab.evaluate(PLACE, [LEFT, TOP, MARGIN]))
            files.append(save(shot, IMAGES / f"{name}.png", digest(infos[name])))
    return files


def save(shot: bytes, path: Path, shows: str) -> Path:
    """Write a screenshot in few colors, with the digest of what it shows."""
    notes = PngImagePlugin.PngInfo()
    notes.add_text(KEY, shows)
    with Image.open(io.BytesIO(shot)) as picture:
        few = picture.convert("RGB").quantize(COLORS, dither=Image.Dither.NONE)
    path.parent.mkdir(parents=True, exist_ok=True)
    few.save(path, optimize=True, pnginfo=notes)
    return path


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="dev.py remake pictures", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "names", nargs="*", metavar="NODE", help="node ids (default: all whose picture is stale)"
    )
    parser.add_argument("--check", action="store_true", help="take nothing; exit 1 if a picture is stale")
    options = parser.parse_args()
    old = stale()
    if options.check or not (options.names or old):
        print("\n".join(f"The picture of {name} is stale." for name in old) or "All pictures are current.")
        return 1 if old else 0
    for path in take(options.names or old):
        print(f"{path.relative_to(PACK)}: {path.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())

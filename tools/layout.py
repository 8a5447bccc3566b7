"""Place the nodes in ``workflows`` in columns, with room for what nodes show when they have run.

Run as ``python3 dev.py remake layout [NAME ...]`` after nodes were added or their widgets changed. Every workflow is
opened in the real frontend with both renderers; a node gets the room of its largest box, before and after a run. The
order of the nodes and their groups are those of the file.
"""

import argparse
import itertools
import json
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ..model_patches.store.video_sink import VideoFormat, write_segment
from .browser import Tab, chromium_for, open_tab
from .canvas import node_boxes, set_renderer, show_results
from .demo import say
from .server import PACK, temporary_server
from .templates import TITLES, template, workflow_text

GAP, GROUP_GAP, PADDING, GROUP_TITLE, NODE_TITLE = 24, 24, 14, 44, 30
BUTTONS_END, VIEW = 92, (1600, 908)
"""The height of the buttons over the canvas, and the size of the canvas below them in a window 1600 pixels wide."""
FIRST_VIEW = 0.92 * VIEW[0], 0.98 * VIEW[1]
"""The part of the view that a template fills when it is opened; ``web/templates.js`` has the same numbers."""
HEIGHTS = range(500, 1700, 30)
PROMPTED = {"Magic141SlidingWindowExtend", "Magic141WindowStart"}
"""Nodes with several lines of prompts, which get more room than they need."""
PROMPT_ROOM = 60


@dataclass(frozen=True)
class Heights:
    """The largest heights of columns: of nodes inside a group, and of groups."""

    nodes: float
    groups: float


@dataclass
class Block:
    """A group of nodes, or nodes outside of groups: columns of (node, width, height)."""

    group: dict | None
    nodes: list[tuple[dict, float, float]] = field(default_factory=list)

    def columns(self, tallest: float) -> list[list[tuple[dict, float, float]]]:
        """Stack the nodes in columns that are no taller than ``tallest``, if they can be."""
        columns, filled = [], tallest + 1
        for node, width, height in self.nodes:
            if filled + height + GAP > tallest:
                columns.append([])
                filled = -GAP
            columns[-1].append((node, width, height))
            filled += height + GAP
        return columns

    def size(self, tallest: float) -> tuple[float, float]:
        columns = self.columns(tallest)
        frame = 2 * PADDING if self.group else 0
        width = sum(max(w for _, w, _ in column) for column in columns) + GAP * (len(columns) - 1)
        height = max(sum(h + GAP for _, _, h in column) - GAP for column in columns)
        return width + frame, height + (frame + GROUP_TITLE - PADDING if self.group else 0)


def blocks_of(workflow: dict, needed: dict[str, tuple[float, float]]) -> list[Block]:
    """Return the groups of a workflow from left to right, each with its nodes in reading order."""
    blocks = [(group["bounding"][:2], Block(group)) for group in workflow["groups"]]
    for node in sorted(workflow["nodes"], key=lambda node: node["pos"]):
        entry = (node, *needed[str(node["id"])])
        owner = next((block for _, block in blocks if block.group and holds(block.group, node)), None)
        if owner is None:
            blocks.append((node["pos"], owner := Block(None)))
        owner.nodes.append(entry)
    return [block for _, block in sorted(blocks, key=lambda entry: entry[0])]


def holds(group: dict, node: dict) -> bool:
    left, top, width, height = group["bounding"]
    return 0 <= node["pos"][0] - left < width and 0 <= node["pos"][1] - top < height


def stacked(blocks: list[Block], heights: Heights) -> list[list[Block]]:
    """Return the blocks in columns no taller than ``heights.groups``, if they can be."""
    columns, filled = [], heights.groups + 1
    for block in blocks:
        height = block.size(heights.nodes)[1]
        if filled + height > heights.groups:
            columns.append([])
            filled = 0
        columns[-1].append(block)
        filled += height + GROUP_GAP
    return columns


def size_of(blocks: list[Block], heights: Heights) -> tuple[float, float]:
    columns = [[block.size(heights.nodes) for block in column] for column in stacked(blocks, heights)]
    width = sum(max(w for w, _ in column) + GROUP_GAP for column in columns) - GROUP_GAP
    return width, max(sum(h + GROUP_GAP for _, h in column) - GROUP_GAP for column in columns)


def best_heights(blocks: list[Block]) -> Heights:
    """Return the heights of columns with which the graph appears largest when it is opened."""
    return max(
        (Heights(*pair) for pair in itertools.product(HEIGHTS, HEIGHTS)), key=partial(scale_of, blocks)
    )


def scale_of(blocks: list[Block], heights: Heights) -> float:
    """Return the scale at which the graph is shown when the template is opened."""
    width, height = size_of(blocks, heights)
    return min(FIRST_VIEW[0] / width, FIRST_VIEW[1] / height)


def place(workflow: dict, needed: dict[str, tuple[float, float]]) -> None:
    """Write the positions of nodes and groups into a workflow.

    Args:
        workflow: the parsed file; its positions are changed.
        needed: by node id, the width and height that the node takes up, title bar included.
    """
    blocks = blocks_of(workflow, needed)
    heights = best_heights(blocks)
    left = 0.0
    for column in stacked(blocks, heights):
        top = 0.0
        for block in column:
            place_block(block, heights.nodes, left, top)
            top += block.size(heights.nodes)[1] + GROUP_GAP
        left += max(block.size(heights.nodes)[0] for block in column) + GROUP_GAP
    (width, height), scale = size_of(blocks, heights), scale_of(blocks, heights)
    middle = [VIEW[0] / 2 / scale - width / 2, (BUTTONS_END + VIEW[1] / 2) / scale - height / 2]
    workflow["extra"]["ds"] = {"scale": round(scale, 3), "offset": [round(value) for value in middle]}


def place_block(block: Block, tallest: float, left: float, top: float) -> None:
    if block.group:
        block.group["bounding"] = [round(value) for value in (left, top, *block.size(tallest))]
        left, top = left + PADDING, top + GROUP_TITLE
    for column in block.columns(tallest):
        below = top
        for node, _, height in column:
            node["pos"] = [round(left), round(below + NODE_TITLE)]
            below += height + GAP
        left += max(width for _, width, _ in column) + GAP


def arrange(tab: Tab, workflow: dict, video: Path) -> None:
    """Place the nodes of a workflow, and give boxes for prompts more room than the frontend does.

    Only for these nodes does the size in the file count; others grow as they need.
    """
    prompted = [node for node in workflow["nodes"] if node["type"] in PROMPTED]
    for node in prompted:
        node["size"][1] = 10
    needed = room_needed(tab, workflow, video)
    for node in prompted:
        width, height = needed[str(node["id"])]
        needed[str(node["id"])] = width, height + PROMPT_ROOM
        node["size"][1] = round(height + PROMPT_ROOM - NODE_TITLE)
    place(workflow, needed)


def room_needed(tab: Tab, workflow: dict, video: Path) -> dict[str, tuple[float, float]]:
    """Return the largest width and height of every node, in both renderers, before and after a run."""
    seen = []
    for vue in (False, True):
        set_renderer(tab, vue=vue)
        tab.drop_text("workflow.json", json.dumps(workflow))
        tab.close_dialogs()
        seen.append(node_boxes(tab))
        show_results(tab, video)
        seen.append(node_boxes(tab))
    set_renderer(tab, vue=False)
    return {
        node: (max(boxes[node]["width"] for boxes in seen), max(boxes[node]["height"] for boxes in seen))
        for node in seen[0]
    }


def write_shown_video(folder: Path) -> Path:
    """Write a video to show on nodes into a server's output folder; square, which takes the most room."""
    import torch

    path = folder / "shown.mp4"
    write_segment(path, torch.full((5, 256, 256, 3), 0.4), VideoFormat("h264", 24, 256, 256, quality=20))
    return path


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="dev.py remake layout", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="workflows (default: all)")
    names = parser.parse_args().names or list(TITLES)
    if unknown := set(names) - set(TITLES):
        parser.error(f"no workflow {', '.join(sorted(unknown))}; there are {', '.join(TITLES)}")
    chromium = chromium_for("nodes cannot be measured")
    with temporary_server() as server, open_tab(server.url, chromium, PACK / "out" / "browser") as tab:
        video = write_shown_video(server.base / "output")
        for path in map(template, names):
            workflow = json.loads(path.read_text(encoding="utf-8"))
            arrange(tab, workflow, video)
            path.write_text(workflow_text(workflow) + "\n", encoding="utf-8")
            say(f"{path.stem}: first seen at {workflow['extra']['ds']['scale']:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

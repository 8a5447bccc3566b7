"""A graph as the frontend draws it: the boxes of its nodes before and after a run, in both renderers.

Nodes grow when they have run, because they then show a video, a picture or a line of text. ``show_results`` sends the
frontend what the host would send about a run, so that graphs whose weights are not here can be measured too.
"""

import base64
import io
import json
from pathlib import Path

from PIL import Image

from .browser import Tab

Boxes = dict[str, dict]
"""By node id: left, top, width and height on the canvas, title bar included, and the node's type."""

BOXES = """() => {
    const { scale, offset } = app.canvas.ds;
    const canvas = app.canvas.canvas.getBoundingClientRect();
    return app.graph.nodes.map((node) => {
        const drawn = LiteGraph.vueNodesMode && document.querySelector(`[data-node-id="${node.id}"]`);
        node.updateArea(app.canvas.ctx);
        const [left, top, width, height] = node.boundingRect;
        const box = { id: String(node.id), type: node.type, left, top, width, height };
        if (!drawn) return box;
        const seen = drawn.getBoundingClientRect();
        box.left = (seen.left - canvas.left) / scale - offset[0];
        box.top = (seen.top - canvas.top) / scale - offset[1];
        return { ...box, width: seen.width / scale, height: seen.height / scale };
    });
}"""
RENDERER = "(on) => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)"
OPEN = """async (workflow) => {
    await app.loadGraphData(workflow, true, true, "template", { openSource: "template" });
    return app.canvas.ds.scale;
}"""
RESULTS = """async ([results, texts, previews, picture]) => {
    const prompt_id = "shown";
    const bytes = Uint8Array.from(atob(picture), (letter) => letter.codePointAt(0));
    const blob = new Blob([bytes], { type: "image/jpeg" });
    const tell = (name, detail) => app.api.dispatchCustomEvent(name, detail);
    tell("execution_start", { prompt_id });
    for (const [nodeId, text] of Object.entries(texts)) tell("progress_text", { nodeId, text, prompt_id });
    for (const nodeId of previews)
        tell("b_preview_with_metadata", { blob, nodeId, displayNodeId: nodeId, realNodeId: nodeId, jobId: prompt_id });
    await new Promise((resolve) => setTimeout(resolve, 300));
    for (const [node, output] of Object.entries(results))
        tell("executed", { node, display_node: node, output, prompt_id });
    tell("execution_success", { prompt_id });
}"""
LAYOUT = f"""() => {{
    const media = [...document.querySelectorAll("img, video")];
    const isShown = (node) => LiteGraph.vueNodesMode || node.imgs?.length || node.videoContainer;
    const loaded = media.every((entry) => entry.complete || entry.readyState > 0);
    const shown = app.graph.nodes.every((node) => !app.nodeOutputs[node.id]?.images?.length || isShown(node));
    return loaded && shown ? ({BOXES})() : performance.now();
}}"""
"""Returns the boxes once every picture and video is loaded; until then, something different at every call."""
REPORT = (
    "HunyuanVideo layout, 12.8 B parameters, bfloat16, 20+40 blocks, 33 input channels. Image to video: needs the"
    " image latent and mask of VLM Image Encode. It embeds the guidance strength: set guidance on the conditioning"
    " (6 is usual for HunyuanVideo)."
)
"""A report as Load Magic141 Model shows it. Reports three times as long scroll: ``web/node_text.js``."""
VIDEOS = {"SaveVideo", "Magic141SlidingWindowExtend", "Magic141WindowSave"}
PICTURES = {"PreviewImage", "Magic141RetrieveImagePrior"}
REPORTS = {"Magic141LoadModel", "Magic141BuildImageIndex", "PreviewAny"}
LONG_REPORTS = {
    "Magic141BuildTrainingSet",
    "Magic141Int8Quantize",
    "Magic141QuantizeFile",
    "Magic141QuantizationReport",
    "Magic141ClipQuality",
    "Magic141FolderQuality",
    "Magic141DistillToFewSteps",
}
PREVIEWS = {
    "KSampler",
    "SamplerCustomAdvanced",
    "Magic141FewStepSampler",
    "Magic141SlidingWindowExtend",
    "Magic141DistillToFewSteps",
}


def set_renderer(tab: Tab, *, vue: bool) -> None:
    """Draw nodes with the newer renderer (Vue) or the classic one, on an empty canvas."""
    tab.evaluate("() => app.graph.clear()")
    tab.evaluate(RENDERER, vue)
    tab.wait_for("(vue) => LiteGraph.vueNodesMode === vue", vue)
    tab.wait_until_still(LAYOUT)


def first_view_scale(tab: Tab, path: Path) -> float:
    """Open a workflow as the template browser does, and return how far the frontend zoomed."""
    return tab.evaluate(OPEN, json.loads(path.read_text(encoding="utf-8")))


def node_boxes(tab: Tab) -> Boxes:
    """Return where the nodes are once the renderer has laid them out and every video is loaded."""
    tab.wait_until_still(LAYOUT)
    return {box["id"]: box for box in tab.evaluate(BOXES)}


def overlaps(boxes: Boxes) -> list[str]:
    """Return the pairs of nodes that overlap by more than a pixel."""
    every = list(boxes.values())
    return [
        f"{one['id']} {one['type']} and {other['id']} {other['type']}"
        for index, one in enumerate(every)
        for other in every[index + 1 :]
        if shared(one, other, "left", "width") > 1 and shared(one, other, "top", "height") > 1
    ]


def shared(one: dict, other: dict, start: str, size: str) -> float:
    """Return how much of one axis two boxes share."""
    return min(one[start] + one[size], other[start] + other[size]) - max(one[start], other[start])


def show_results(tab: Tab, video: Path) -> None:
    """Show on every node what the host sends when it has run: text, live preview, pictures, videos.

    Args:
        tab: the frontend with the graph in it.
        video: a video in the server's output folder.
    """
    picture = video.with_suffix(".png")
    Image.new("RGB", (640, 400), "#446688").save(picture)
    output = {
        "video": {"images": [saved(video)], "animated": [True]},
        "picture": {"images": [saved(picture)]},
        "report": {"text": [REPORT]},
        "long report": {"text": [REPORT * 3]},
    }
    kinds = [(VIDEOS, "video"), (PICTURES, "picture"), (REPORTS, "report"), (LONG_REPORTS, "long report")]
    nodes = tab.nodes()
    results = {n["id"]: output[kind] for types, kind in kinds for n in nodes if n["type"] in types}
    texts = {n["id"]: "done in 12.3 s" for n in nodes if n["type"].startswith("Magic141")}
    previews = [n["id"] for n in nodes if n["type"] in PREVIEWS]
    tab.evaluate(RESULTS, [results, texts, previews, preview()])


def saved(path: Path) -> dict:
    return {"filename": path.name, "subfolder": "", "type": "output"}


def preview() -> str:
    """Return a live preview as the host sends it, in base64."""
    memory = io.BytesIO()
    Image.new("RGB", (64, 64), "#446688").save(memory, "JPEG")
    return base64.b64encode(memory.getvalue()).decode("ascii")

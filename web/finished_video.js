// Show the finished video in place of the last live preview. Of a node that gives both, the frontend keeps the preview;
// and the classic renderer makes a video as high as the node is wide, which is too much under twenty widgets.

import { app } from "../../scripts/app.js";
import { chain } from "./chain.js";

const [WIDGET, PICTURE] = ["video-preview", "$$canvas-image-preview"]; // the frontend's names of widgets
const MAX_HEIGHT = 170;
const NODES = ["Magic141SlidingWindowExtend", "Magic141WindowSave"];

/** Remove the live preview of a node that makes a video once the video is there, and limit the video's height. */
export function showFinishedVideo(node, type) {
  if (!NODES.includes(type)) return;
  const { addDOMWidget } = node;
  node.addDOMWidget = function (name, ...given) {
    const widget = addDOMWidget.call(this, name, ...given);
    if (name === WIDGET) queueMicrotask(() => keepLow(widget)); // when the frontend has given it its size
    return widget;
  };
  chain(node, "onExecuted", (output) => {
    if (output?.animated?.some(Boolean)) dropPreview(node);
  });
}

function dropPreview(node) {
  previews()?.revokePreviewsByLocatorId?.(locatorOf(node));
  node.imgs = undefined; // the classic renderer keeps the picture, and a widget for it
  const index = node.widgets.findIndex((widget) => widget.name === PICTURE);
  if (index >= 0) node.widgets.splice(index, 1)[0].onRemove?.();
}

function keepLow(widget) {
  const { computeLayoutSize } = widget;
  widget.computeLayoutSize = function (...given) {
    const size = computeLayoutSize.apply(this, given);
    return { ...size, minHeight: Math.min(size.minHeight, MAX_HEIGHT) };
  };
}

/** Return the frontend's store of previews. It has no public access; if a frontend lacks it, previews stay. */
function previews() {
  const page = document.querySelector("#vue-app")?.__vue_app__;
  return page?.config.globalProperties.$pinia?._s.get("nodeOutput");
}

/** Return how the frontend names a node, which may be inside a subgraph. */
function locatorOf(node) {
  return node.graph === app.rootGraph ? String(node.id) : `${node.graph.id}:${node.id}`;
}

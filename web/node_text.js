// What a node found or did, shown on the node after it ran: loaders, indexes, quantization.

const STYLE =
  "white-space:pre-wrap;overflow:auto;height:100%;box-sizing:border-box;padding:4px 6px;border-radius:4px;" +
  "background:#0004;font:11px sans-serif;user-select:text";
const MIN_HEIGHT = 48;

/** Show the text of a node's result under its widgets. */
export function showText(node) {
  const before = node.onExecuted;
  let panel = null;
  node.onExecuted = function (output) {
    before?.call(this, output);
    const text = output?.text?.join?.("\n") ?? output?.text;
    if (typeof text !== "string") return;
    panel ??= addPanel(node);
    panel.textContent = text;
    node.setDirtyCanvas?.(true, true);
  };
}

function addPanel(node) {
  const panel = document.createElement("div");
  panel.className = "magic141-text";
  panel.style.cssText = STYLE;
  const widget = node.addDOMWidget("found", "magic141_text", panel, { serialize: false, getMinHeight: () => MIN_HEIGHT });
  widget.serialize = false;
  const [width, height] = node.computeSize();
  node.setSize?.([Math.max(node.size[0], width), Math.max(node.size[1], height)]);
  return panel;
}

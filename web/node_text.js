// Show on a node what it found or did, after it ran: loaders, indexes, quantization.

import { chain } from "./chain.js";

const STYLE =
  "white-space:pre-wrap;overflow:auto;height:100%;box-sizing:border-box;padding:4px 6px;border-radius:4px;" +
  "background:#0004;font:11px sans-serif;user-select:text";
const [LETTER_PX, LINE_PX, MARGIN_PX] = [5.4, 14, 40]; // of that font, and beside and around the text
const [MIN_HEIGHT, MAX_HEIGHT] = [48, 132]; // longer texts scroll

/** Show the text of a node's result under its widgets. */
export function showText(node) {
  let panel = null;
  chain(node, "onExecuted", (output) => {
    const text = output?.text?.join?.("\n") ?? output?.text;
    if (typeof text !== "string") return;
    panel ??= addPanel(node);
    panel.textContent = text;
    makeRoom(node);
  });
}

function makeRoom(node) {
  const [width, height] = node.computeSize();
  node.setSize?.([Math.max(node.size[0], width), Math.max(node.size[1], height)]);
  node.setDirtyCanvas?.(true, true);
}

/** Return the height of a text in a node of this width, within the limits of a panel. */
function heightOf(text, width) {
  const letters = Math.max(1, Math.floor((width - MARGIN_PX) / LETTER_PX));
  const lines = text.split("\n").reduce((count, line) => count + Math.max(1, Math.ceil(line.length / letters)), 0);
  return Math.min(MAX_HEIGHT, Math.max(MIN_HEIGHT, lines * LINE_PX + 8));
}

function addPanel(node) {
  const panel = document.createElement("div");
  panel.className = "magic141-text";
  panel.style.cssText = STYLE;
  const getMinHeight = () => heightOf(panel.textContent, node.size[0]);
  const widget = node.addDOMWidget("found", "magic141_text", panel, { serialize: false, getMinHeight });
  widget.serialize = false;
  return panel;
}

// The pack's part of the interface. ComfyUI loads every script of this folder; only this one registers anything.

import { app } from "../../scripts/app.js";
import { showText } from "./node_text.js";
import { readOldWidgets } from "./old_widgets.js";
import { texts } from "./texts.js";
import { addTimeline, tellTimeline } from "./window_timeline.js";

const TIMELINE_NODES = ["Magic141SlidingWindowExtend", "Magic141WindowStart"];

app.registerExtension({
  name: "Magic141",
  beforeRegisterNodeDef(nodeType, nodeData) {
    readOldWidgets(nodeType, nodeData.name);
  },
  nodeCreated(node) {
    const type = node.comfyClass ?? node.type ?? "";
    if (TIMELINE_NODES.includes(type)) {
      addTimeline(node, texts(app.extensionManager?.setting?.get("Comfy.Locale") ?? "en"));
    } else if (type === "Magic141WindowSave") {
      tellTimeline(node);
    } else if (type.startsWith("Magic141")) {
      showText(node);
    }
  },
});

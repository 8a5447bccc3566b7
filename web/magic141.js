// The pack's part of the interface. ComfyUI loads every script of this folder; only this one registers anything.

import { app } from "../../scripts/app.js";
import { listenToRuns } from "./cards/runs.js";
import { addStrip, passToStrip } from "./cards/strip.js";
import { putEmbeddedLast } from "./embedded_last.js";
import { showFinishedVideo } from "./finished_video.js";
import { showText } from "./node_text.js";
import { readOldWidgets } from "./old_widgets.js";
import { fillFirstView, openAskedFor, sortTemplates, takeShortName } from "./templates.js";
import { texts } from "./texts.js";
import { loadTexts, translateChoices, translateEvents } from "./translate.js";
import { translateGraph } from "./translated_graph.js";

const locale = () => app.extensionManager?.setting?.get("Comfy.Locale") ?? "en";
let translation = null;

const NODES_WITH_CARDS = ["Magic141SlidingWindowExtend", "Magic141WindowStart"];

app.registerExtension({
  name: "magic141.nodes",
  async init() {
    sortTemplates();
    fillFirstView();
    await takeShortName();
    translation = await loadTexts(locale());
    if (translation) translateEvents(translation);
    listenToRuns();
  },
  afterConfigureGraph() {
    if (translation) translateGraph(app.graph, translation);
  },
  setup() {
    openAskedFor(); // not awaited: it waits for the frontend itself
  },
  addCustomNodeDefs(nodeDefs) {
    Object.values(nodeDefs).forEach(putEmbeddedLast);
  },
  beforeRegisterNodeDef(nodeType, nodeData) {
    readOldWidgets(nodeType, nodeData.name);
  },
  nodeCreated(node) {
    const type = node.comfyClass ?? node.type ?? "";
    if (translation && type.startsWith("Magic141")) translateChoices(node, translation);
    if (NODES_WITH_CARDS.includes(type)) {
      addStrip(node, texts(locale()));
    } else if (type === "Magic141WindowSave") {
      passToStrip(node);
    } else if (type.startsWith("Magic141")) {
      showText(node);
    }
    showFinishedVideo(node, type);
  },
});

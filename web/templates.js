// The pack's workflows in the template browser: in our order, and opened by the short names that links of all versions
// use (?template=magic141_one_minute&source=magic141), although the frontend shows file names as titles.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

const TITLES = new URL("./template_names.json", import.meta.url);
const ASKED_FOR = "magic141-template";
const BUTTONS_END_PX = 92; // the frontend's own buttons lie over the top of the canvas
const [FILLED_WIDTH, FILLED_HEIGHT] = [0.92, 0.98]; // of what is below; at the frontend's 0.75, twenty nodes show no letters

/** Let the frontend list our templates by the numbers in their titles; the server gives them in the order of the disk. */
export function sortTemplates() {
  const list = api.getWorkflowTemplates;
  api.getWorkflowTemplates = async function (...given) {
    const packs = await list.apply(this, given);
    for (const names of Object.values(packs)) if (names.some?.((name) => /^01 .* start here$/.test(name))) names.sort();
    return packs;
  };
}

/** Show a template that has nodes of ours larger than the frontend does when it opens one. */
export function fillFirstView() {
  const load = app.loadGraphData;
  app.loadGraphData = async function (graph, ...given) {
    const loaded = await load.call(this, graph, ...given);
    const ours = graph?.nodes?.some((node) => String(node.type).startsWith("Magic141"));
    if (given[3]?.openSource === "template" && ours) showAll();
    return loaded;
  };
}

function showAll() {
  const boxes = [...app.graph.nodes, ...app.graph.groups].map((part) => [...part.boundingRect]);
  if (!boxes.length) return;
  const [left, top] = [0, 1].map((axis) => Math.min(...boxes.map((box) => box[axis])));
  const [right, bottom] = [0, 1].map((axis) => Math.max(...boxes.map((box) => box[axis] + box[axis + 2])));
  const { ds, canvas } = app.canvas;
  const page = canvas.getBoundingClientRect();
  const below = Math.max(0, BUTTONS_END_PX - page.top);
  const high = page.height - below;
  ds.scale = Math.min((FILLED_WIDTH * page.width) / (right - left), (FILLED_HEIGHT * high) / (bottom - top), 1);
  ds.offset[0] = (page.width / ds.scale - left - right) / 2;
  ds.offset[1] = ((2 * below + high) / ds.scale - top - bottom) / 2;
  app.canvas.setDirty(true, true);
}

/** Take a short name out of the address before the frontend looks for a file of that name. */
export async function takeShortName() {
  const address = new URL(location.href);
  const name = address.searchParams.get("template");
  if (!name?.startsWith("magic141_")) return;
  const title = (await (await fetch(TITLES)).json())[name];
  if (!title) return;
  const pack = address.searchParams.get("source") ?? "magic141";
  sessionStorage.setItem(ASKED_FOR, JSON.stringify({ pack, title }));
  address.searchParams.delete("template");
  address.searchParams.delete("source");
  location.replace(address);
  await new Promise(() => {}); // this page is about to go
}

/** Open the template whose short name was in the address, when the frontend has opened its own first workflow. */
export async function openAskedFor() {
  const stored = sessionStorage.getItem(ASKED_FOR);
  if (!stored) return;
  while (!app.extensionManager?.workflow?.activeWorkflow) await new Promise((resolve) => setTimeout(resolve, 200));
  sessionStorage.removeItem(ASKED_FOR);
  const { pack, title } = JSON.parse(stored);
  const file = `/workflow_templates/${encodeURIComponent(pack)}/${encodeURIComponent(title)}.json`;
  const reply = await fetch(api.apiURL(file));
  if (reply.ok) await app.loadGraphData(await reply.json(), true, true, title, { openSource: "template" });
}

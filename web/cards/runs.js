// Pass on to the cards what the server reports during a run.

import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";

const queued = new Map(); // prompt -> its workflow, and the settings of the nodes when it was queued

/** Pass events of runs to the cards of each node (its `magic141Cards`, see strip.js). */
export function listenToRuns() {
  const on = (name, act) => api.addEventListener(name, ({ detail }) => act(detail ?? {}));
  rememberQueued();
  let running = null; // the prompt of this page; progress texts go to every page, also of other users
  on("execution_start", ({ prompt_id }) => (running = prompt_id));
  on("progress_text", ({ nodeId }) => running && cardsOf(nodeId, running)?.begins(running));
  on("magic141.unfinished", ({ node, text }) => running && cardsOf(node, running)?.unfinished(running, text));
  on("magic141.windows", (detail) => {
    running = detail.prompt_id;
    cardsOf(detail.node, running)?.windows(detail);
  });
  on("progress", ({ node, prompt_id, value, max }) => {
    running = prompt_id;
    const cards = cardsOf(node, prompt_id);
    cards?.begins(prompt_id);
    if (cards) cards.progress(value / max, { ofAll: true });
    else every((other) => other.prompt === prompt_id && other.progress(value / max, { ofAll: false }));
  });
  const end =
    (how) =>
    ({ prompt_id, exception_message = "" }) => {
      running = null;
      every((cards) => cards.ends(how, exception_message, prompt_id));
    };
  on("execution_success", end("done"));
  on("execution_interrupted", end("stopped"));
  on("execution_error", end("failed"));
  on("reconnected", () => every((cards) => cards.restarted()));
  window.addEventListener("focus", () => every((cards) => cards.check())); // files may have been deleted meanwhile
}

/** Remember the workflow and the settings of the nodes when a prompt is queued. */
function rememberQueued() {
  const queue = api.queuePrompt;
  api.queuePrompt = async function (...given) {
    const settings = new Map();
    every((cards) => settings.set(cards.results.key, cards.settings));
    const graph = root()?.id;
    const reply = await queue.apply(this, given);
    if (reply?.prompt_id) queued.set(reply.prompt_id, { graph, settings });
    return reply;
  };
}

/** Return the settings of a node when a prompt was queued; its present ones if another page has queued it. */
export function settingsOfRun(prompt, cards) {
  return queued.get(prompt)?.settings.get(cards.results.key) ?? cards.settings;
}

const root = () => app.rootGraph ?? app.graph;

/**
 * Return the cards of a node, if the prompt is of the workflow on the screen; the server names a node inside a subgraph
 * with the nodes around it, as 5:12.
 */
function cardsOf(id, prompt) {
  let graph = root();
  if (queued.has(prompt) && queued.get(prompt).graph !== graph?.id) return null;
  let node = null;
  for (const part of String(id ?? "").split(":")) {
    node = graph?.getNodeById?.(part) ?? graph?.getNodeById?.(Number(part)) ?? null;
    graph = node?.subgraph;
  }
  return node?.magic141Cards ?? null;
}

function every(act, graph = root()) {
  for (const node of graph?.nodes ?? []) {
    if (node.magic141Cards) act(node.magic141Cards);
    if (node.subgraph) every(act, node.subgraph);
  }
}

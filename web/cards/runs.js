// Tell the cards what the server says while it works.

import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";

/**
 * A node with cards has `magic141Cards`, with these functions:
 * begins(prompt), windows(detail), progress(share of the window or of all), ends(how, why, prompt), restarted(), queued().
 */
export function listenToRuns() {
  const on = (name, act) => api.addEventListener(name, ({ detail }) => act(detail ?? {}));
  let running = null; // the prompt of this page; progress texts go to every page, also of other users
  on("promptQueued", () => every((cards) => cards.queued()));
  on("execution_start", ({ prompt_id }) => (running = prompt_id));
  on("progress_text", ({ nodeId }) => running && cardsOf(nodeId)?.begins(running));
  on("magic141.windows", (detail) => {
    running = detail.prompt_id;
    cardsOf(detail.node)?.windows(detail);
  });
  on("progress", ({ node, prompt_id, value, max }) => {
    running = prompt_id;
    const own = cardsOf(node);
    if (own) own.progress(value / max, { ofAll: true });
    else every((cards) => cards.prompt === prompt_id && cards.progress(value / max, { ofAll: false }));
  });
  const end = (how) => ({ prompt_id, exception_message = "" }) => {
    running = null;
    every((cards) => cards.ends(how, exception_message, prompt_id));
  };
  on("execution_success", end("done"));
  on("execution_interrupted", end("stopped"));
  on("execution_error", end("failed"));
  on("reconnected", () => every((cards) => cards.restarted()));
}

/** Return the cards of a node; the server names a node inside a subgraph with the nodes around it, as 5:12. */
function cardsOf(id) {
  let graph = app.rootGraph ?? app.graph;
  let node = null;
  for (const part of String(id ?? "").split(":")) {
    node = graph?.getNodeById?.(part) ?? graph?.getNodeById?.(Number(part)) ?? null;
    graph = node?.subgraph;
  }
  return node?.magic141Cards ?? null;
}

function every(act, graph = app.rootGraph ?? app.graph) {
  for (const node of graph?.nodes ?? []) {
    if (node.magic141Cards) act(node.magic141Cards);
    if (node.subgraph) every(act, node.subgraph);
  }
}

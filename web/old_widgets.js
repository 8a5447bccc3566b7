// Workflows saved by older versions: a node's widget values are stored by position, so a removed widget shifts all that
// follow. This file knows the old positions and moves the old values to where the widgets are now.

// By node: the widgets in the order in which they were saved; `now` replaces values that no longer exist.
const SAVED = {
  Magic141SlidingWindowExtend: {
    widgets: [
      "prompts", "negative_prompt", "length", "length_in", "window_length", "overlap", "width", "height", "fps", "steps",
      "shift", "sampler", "cfg", "guidance", "seed", "seed: control", "hand_over", "latent_anchor", "color_anchor",
      "color_match", "first_frame_context", "reroll_threshold", "reroll_limit", "turn_limit", "fusion_length",
      "fusion_overlap", "run_name", "codec", "quality", "png_sequence",
    ],
    removed: [
      "latent_anchor", "color_match", "first_frame_context", "reroll_limit", "fusion_length", "fusion_overlap", "quality",
      "png_sequence",
    ],
    now: { hand_over: { mixed: "auto" } },
  },
};

/** Let nodes of this type read what older versions saved. */
export function readOldWidgets(nodeType, type) {
  const saved = SAVED[type];
  if (!saved) return;
  const configure = nodeType.prototype.configure;
  nodeType.prototype.configure = function (info) {
    const { node, links } = withoutRemoved(info, saved);
    const result = configure.call(this, node);
    if (links.length) queueMicrotask(() => links.forEach((link) => cutLink(this.graph, link)));
    return result;
  };
}

/**
 * Leave removed widgets out of a saved node.
 *
 * @returns {{node: object, links: number[]}} the node, and the links that led to removed widgets.
 */
export function withoutRemoved(info, { widgets, removed, now }) {
  const values = info.widgets_values;
  const gone = (input) => removed.includes(input.name);
  const links = (info.inputs ?? []).filter((input) => gone(input) && input.link != null).map((input) => input.link);
  if (!Array.isArray(values) || values.length !== widgets.length) return { node: info, links: [] };
  console.info(`Magic141: a workflow of an older version sets ${removed.join(", ")}, which are gone; they are left out.`);
  const kept = widgets.flatMap((name, index) =>
    removed.includes(name) ? [] : [now[name]?.[values[index]] ?? values[index]],
  );
  return { node: { ...info, widgets_values: kept, inputs: info.inputs?.filter((input) => !gone(input)) }, links };
}

function cutLink(graph, id) {
  const link = graph?.links?.get?.(id) ?? graph?.links?.[id];
  if (!link) return;
  const output = graph.getNodeById(link.origin_id)?.outputs?.[link.origin_slot];
  if (output?.links) output.links = output.links.filter((other) => other !== id);
  link.disconnect(graph);
}

export const savedWidgets = (type) => SAVED[type];

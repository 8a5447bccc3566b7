// Titles and notes of our workflows in the language of the interface. Only the display is translated: what is saved,
// copied or put into a video keeps the texts of the file, unless the artist wrote others.

/**
 * Show the titles and notes of a graph in a language; what the artist wrote stays.
 *
 * @param {object} graph with its groups and nodes.
 * @param {{own: {titles: object}, notes: object}} texts in the language, by the English ones.
 */
export function translateGraph(graph, texts) {
  for (const part of [...graph.groups, ...graph.nodes]) translateTitle(part, texts.own.titles);
  for (const node of graph.nodes.filter((node) => node.type === "MarkdownNote")) translateNote(node, texts.notes);
}

function translateTitle(part, titles) {
  const original = part.title;
  const shown = titles[original];
  if (!shown) return;
  part.title = shown;
  whenSaved(part, (saved) => {
    if (part.title === shown) saved.title = original;
  });
}

function translateNote(node, notes) {
  for (const widget of node.widgets ?? []) {
    const original = widget.value;
    const shown = notes[original];
    if (!shown) continue;
    widget.value = shown;
    whenSaved(node, (saved) => {
      saved.widgets_values = saved.widgets_values?.map((value) => (value === shown ? original : value));
    });
  }
}

function whenSaved(part, restore) {
  const serialize = part.serialize;
  part.serialize = function (...given) {
    const saved = serialize.apply(this, given);
    restore(saved);
    return saved;
  };
}

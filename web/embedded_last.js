// In the lists of other nodes, the pack's small models come after the artist's own files, so that a stock loader does not
// begin with one of them.

const EMBEDDED = /^magic141_shapes_/;

/** Change the lists of a node's definition in place. */
export function putEmbeddedLast(nodeData) {
  if (nodeData.name.startsWith("Magic141")) return;
  for (const section of [nodeData.input?.required, nodeData.input?.optional])
    for (const [kind, options] of Object.values(section ?? {})) {
      const list = Array.isArray(kind) ? kind : options?.options;
      if (!Array.isArray(list) || !list.some((entry) => EMBEDDED.test(entry))) continue;
      const others = list.filter((entry) => !EMBEDDED.test(entry));
      list.splice(0, list.length, ...others, ...list.filter((entry) => EMBEDDED.test(entry)));
    }
}

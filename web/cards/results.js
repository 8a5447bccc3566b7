// A node's windows as the server reported them. They are saved with the node, so that they are there when the page is
// loaded again; the story itself is in the prompts box alone.

import { settingsOf } from "./node_story.js";
import { fileKey } from "./state.js";

const KEPT = "magic141_cards";
const MOST_KEPT = 400; // the first windows of a longer video
const newest = new Map(); // by node: undo brings old properties back, but not old files

/** The finished windows of one node. */
export class Results {
  constructor(node) {
    this.node = node;
    this.clear();
  }

  clear() {
    this.windows = new Map();
    this.numKept = 0;
    this.gone = new Set();
  }

  /** Take over what is saved with the node, or what is newer. */
  read() {
    const kept = this.node.properties?.[KEPT];
    const known = newest.get(this.key);
    this.clear();
    const best = known && !(kept?.stamp >= known.stamp) ? known : kept;
    if (!Array.isArray(best?.windows)) return;
    const isOfThisRun = ({ settings }) => kept || settings === settingsOf(this.node); // the node may be a fresh one
    for (const window of best.windows) if (isOfThisRun(window)) this.put(window);
    this.numKept = best.num_kept ?? 0;
  }

  /** Take finished windows; `settings` is the hash of what else they were made with (see settingsOf). */
  add(windows, { settings, numKept, all = false }) {
    const before = this.windows;
    const now = Date.now();
    if (all) this.windows = new Map();
    for (const window of windows) {
      const old = before.get(window.index);
      const isOld = old?.bytes === window.bytes && old?.seconds === window.seconds; // its file has not changed
      this.put({ ...window, settings, stamp: isOld ? old.stamp : now });
    }
    this.numKept = numKept ?? this.numKept;
    this.gone.clear();
    this.keep(now);
  }

  put(window) {
    if (Number.isInteger(window?.index) && window.index >= 0) this.windows.set(window.index, window);
  }

  lose(file) {
    this.gone.add(fileKey(file));
  }

  keep(stamp) {
    const windows = [...this.windows.values()].slice(0, MOST_KEPT);
    const kept = { stamp, num_kept: this.numKept, windows };
    this.node.properties ??= {};
    this.node.properties[KEPT] = kept;
    newest.set(this.key, kept);
  }

  get key() {
    const graph = this.node.graph?.rootGraph ?? this.node.graph;
    return `${graph?.id}/${this.node.graph?.id}/${this.node.id}`;
  }
}

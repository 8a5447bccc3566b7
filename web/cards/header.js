// The lines above the cards: the story at a glance, and tools for the chosen card.

import { clock, iconButton, make, set, setLabel, svgOf } from "./dom.js";

const DEFAULT_LIMIT = "2.0";
const DRIFT_SHOWN = 10; // delta E at the top of the curve, more if it went further

/** The two lines above the cards. `acts` are the strip's functions. */
export class Header {
  constructor(acts, words) {
    this.words = words;
    this.summary = make("span", "magic141-summary");
    this.curve = svgOf("polyline", { points: "" });
    this.drift = svgOf("svg", {
      class: "magic141-drift",
      viewBox: "0 0 100 100",
      preserveAspectRatio: "none",
      role: "img",
    });
    this.driftTitle = svgOf("title", {});
    this.drift.append(this.driftTitle, svgOf("line", { x1: 0, y1: 100, x2: 100, y2: 100 }), this.curve);
    this.announcement = make("span", "magic141-unseen", { "aria-live": "polite" });
    this.story = make("div", "magic141-story", {}, [this.summary, this.drift, this.announcement]);
    this.tools = this.makeTools(acts);
  }

  makeTools(acts) {
    const { words } = this;
    const tool = (name, icon, act, text) =>
      (this[name] = iconButton(icon, typeof words[name] === "function" ? "" : words[name], act, text));
    this.limit = make("input", "", {
      type: "number",
      min: 0,
      step: 0.5,
      "aria-label": words.limit,
      title: words.limit,
    });
    this.limit.addEventListener("change", () => acts.keepLater(this.limit.value || DEFAULT_LIMIT));
    this.keeps = make("input", "", { type: "checkbox" });
    this.keeps.addEventListener("change", () =>
      acts.keepLater(this.keeps.checked ? this.limit.value || DEFAULT_LIMIT : null),
    );
    this.keep = make("label", "magic141-keep", { title: words.keepLater }, [
      this.keeps,
      make("span", "", { textContent: words.keepLaterShort }),
    ]);
    const redo = tool("redo", "redo", acts.redo, words.redoShort);
    redo.classList.add("magic141-redo");
    return make("div", "magic141-tools", { role: "toolbar", "aria-label": words.tools }, [
      tool("add", "add", acts.add), tool("split", "split", acts.split), tool("remove", "remove", acts.remove),
      tool("stepLeft", "left", () => acts.step(-1)), tool("stepRight", "right", () => acts.step(1)),
      tool("spread", "spread", acts.spread),
      make("span", "magic141-space"), redo,
      this.keep, make("span", "magic141-keep", {}, [this.limit]),
    ]); // prettier-ignore
  }

  /** Show the story: {story, cards, figures, numKept, current, limit}. */
  update({ story, cards, figures, numKept, current, limit }) {
    const { words } = this;
    const count = cards.length;
    set(this.summary, "textContent", this.glance(story, cards, figures, numKept));
    set(this.summary, "title", this.summary.textContent);
    this.draw(figures.drift);
    const editable = story.editable && count > 0;
    const countable = editable && story.countable;
    const allowed = {
      add: countable, split: countable, remove: countable && count > 1, stepLeft: editable && current > 0,
      stepRight: editable && current < count - 1, spread: editable && current < count - 1, redo: editable,
    }; // prettier-ignore
    for (const [name, value] of Object.entries(allowed)) set(this[name], "disabled", !value);
    setLabel(this.redo, words.redo(current + 1));
    this.keeps.disabled = this.limit.disabled = !story.editable;
    set(this.keeps, "checked", limit !== null);
    this.limit.parentElement.hidden = limit === null;
    if (limit !== null && document.activeElement !== this.limit) set(this.limit, "value", limit);
  }

  glance(story, cards, { secondsLeft, bytes }, numKept) {
    const { words } = this;
    if (!cards.length) return words.nothing;
    const { start, end } = cards[Math.min(1, cards.length - 1)]; // the first has more new frames, the last may be cut
    const each = end - start;
    const parts = [
      words.windows(cards.length, each.toFixed(each < 2 ? 2 : 1).replace(/\.?0+$/, ""), clock(cards.at(-1).end)),
    ];
    if (numKept) parts.push(words.kept(numKept));
    if (secondsLeft > 0) parts.push(words.left(duration(secondsLeft, words)));
    if (bytes) parts.push(words.disk(size(bytes)));
    if (!story.editable) parts.push(words.linked);
    return parts.join(" · ");
  }

  draw(drift) {
    this.drift.style.visibility = drift.length > 1 ? "visible" : "hidden";
    const top = Math.max(DRIFT_SHOWN, ...drift);
    const points = drift.map(
      (value, index) =>
        `${((100 * index) / Math.max(1, drift.length - 1)).toFixed(1)},${(100 - (100 * value) / top).toFixed(1)}`,
    );
    this.curve.setAttribute("points", points.join(" "));
    set(this.driftTitle, "textContent", drift.length ? this.words.driftIs(drift.at(-1).toFixed(1)) : "");
  }

  say(text) {
    this.announcement.textContent = text;
  }
}

function duration(seconds, words) {
  if (seconds < 90) return words.seconds(Math.max(1, Math.round(seconds)));
  const minutes = Math.round(seconds / 60);
  return minutes < 90 ? words.minutes(minutes) : words.hours(Math.floor(minutes / 60), minutes % 60);
}

function size(bytes) {
  const megabytes = bytes / 1e6;
  if (megabytes >= 1000) return `${(megabytes / 1000).toFixed(1)} GB`;
  return megabytes >= 1 ? `${megabytes.toFixed(0)} MB` : `${Math.max(1, Math.round(bytes / 1000))} KB`;
}

// The strip of cards on Sliding Window Extend and Window Start: one card a window, over the prompts box.

import { app } from "../../../scripts/app.js";
import { chain } from "../chain.js";
import { windowLabels } from "../prompt_labels.js";
import { actsOf } from "./acts.js";
import { Card } from "./card.js";
import { make } from "./dom.js";
import { Header } from "./header.js";
import { onKey } from "./keys.js";
import { settingsOf, startPicture, storyOf, writeStory } from "./node_story.js";
import { Results } from "./results.js";
import { settingsOfRun } from "./runs.js";
import { figuresOf, statesOf } from "./state.js";
import { cardsOf, keepLimit } from "./story.js";
import { addStyle, CARD_WIDTH, GAP, HEIGHT, PITCH } from "./style.js";

const BESIDE = 1; // how many cards are ready on either side of the visible ones
const WIDTH_AT_FIRST = 600; // before the strip is laid out
const MOST_CARDS = 100_000; // a browser's widest element has room for no more
const MOST_LABELLED = 300;

/** Add the cards to a node and keep them in step with its widgets and results. */
export function addStrip(node, words) {
  addStyle();
  node.magic141Cards = new Strip(node, words);
}

/** Pass the results of a Window Save to the cards of its Window Start. */
export function passToStrip(node) {
  chain(node, "onExecuted", (output) => {
    const slot = node.inputs?.findIndex((input) => input.name === "window") ?? -1;
    if (slot >= 0) node.getInputNode(slot)?.magic141Cards?.executed(output);
  });
}

class Strip {
  constructor(node, words) {
    Object.assign(this, { node, words, current: 0, run: null, prompt: null, views: new Map(), drawing: false });
    this.seen = { left: 0, width: WIDTH_AT_FIRST }; // of the strip; to ask the page would trigger a layout of everything
    this.results = new Results(node);
    this.acts = actsOf(this);
    this.header = new Header(this.acts, words);
    this.list = make("ul", "magic141-list", { role: "list", "aria-label": words.cards });
    this.scroll = make("div", "magic141-scroll", { onscroll: () => this.look(), tabIndex: -1 }, [this.list]);
    this.root = make("div", "magic141-cards", {}, [this.header.story, this.header.tools, this.scroll]);
    this.addWidget();
    this.listen();
    this.results.read();
    this.draw();
  }

  addWidget() {
    const size = () => HEIGHT;
    const options = { serialize: false, margin: 4, getMinHeight: size, getMaxHeight: size };
    const widget = this.node.addDOMWidget("cards", "magic141_cards", this.root, options);
    widget.serialize = false;
  }

  listen() {
    const { node, root } = this;
    const draw = () => this.draw();
    for (const own of node.widgets) chain(own, "callback", draw);
    chain(node, "onAdded", draw);
    chain(node, "onConnectionsChange", draw);
    chain(node, "onConfigure", () => {
      this.results.read();
      this.draw();
    });
    chain(node, "onExecuted", (output) => this.executed(output));
    chain(node, "onRemoved", () => this.dropViews());
    root.addEventListener("keydown", (event) => onKey(this, event));
    root.addEventListener("pointerdown", (event) => event.button === 0 && event.stopPropagation());
    root.addEventListener("wheel", (event) => this.roll(event), { passive: false });
    new ResizeObserver(() => this.look()).observe(this.scroll);
  }

  /** Roll the cards with Shift, sideways, or when they have the focus; otherwise the canvas zooms as everywhere. */
  roll(event) {
    const sideways = event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY);
    if (event.ctrlKey || !(sideways || hasFocus(this.root))) return;
    event.preventDefault();
    event.stopPropagation();
    this.scroll.scrollLeft += event.deltaX || event.deltaY;
  }

  // --- drawing ---------------------------------------------------------------------------------------------

  /** Draw soon: several changes at once are drawn once. */
  draw() {
    if (this.drawing) return;
    this.drawing = true;
    queueMicrotask(() => {
      this.drawing = false;
      this.drawNow();
    });
  }

  drawNow() {
    const { node, results } = this;
    if (!node.graph) return; // it was removed meanwhile
    this.story = storyOf(node);
    this.cards = cardsOf(this.story).slice(0, MOST_CARDS);
    this.states = statesOf(this.cards, results.windows, {
      run: this.run,
      settings: settingsOf(node),
      gone: results.gone,
    });
    this.labels = this.cards.length <= MOST_LABELLED ? windowLabels(this.cards.map(({ prompt }) => prompt)) : [];
    this.current = Math.max(0, Math.min(this.current, this.cards.length - 1));
    this.list.style.width = `${Math.max(0, this.cards.length * PITCH - GAP)}px`;
    this.header.update({
      story: this.story,
      cards: this.cards,
      figures: figuresOf(this.states, results.windows),
      numKept: results.numKept,
      current: this.current,
      limit: keepLimit(this.story),
    });
    this.startPicture = startPicture(node);
    this.renderViews();
  }

  /** Find out which part of the strip is on the screen. */
  look() {
    this.seen = { left: this.scroll.scrollLeft, width: this.scroll.clientWidth || WIDTH_AT_FIRST };
    this.renderViews();
  }

  /** Keep elements for the visible cards, and for no others. */
  renderViews() {
    if (!this.cards) return;
    const { left, width } = this.seen;
    const first = Math.max(0, Math.floor(left / PITCH) - BESIDE);
    const last = Math.min(this.cards.length - 1, Math.ceil((left + width) / PITCH) + BESIDE);
    const wanted = new Set([this.current, this.dragged].filter((index) => index < this.cards.length));
    for (let index = first; index <= last; index += 1) wanted.add(index);
    for (const [index, view] of this.views) if (!wanted.has(index)) this.dropView(index, view);
    for (const index of [...wanted].sort((one, other) => one - other)) this.updateView(index);
  }

  updateView(index) {
    let view = this.views.get(index);
    if (!view) {
      view = new Card(index, this.acts, this.words);
      view.root.style.left = `${index * PITCH}px`;
      this.views.set(index, view);
      const next = [...this.list.children].find((other) => Number(other.getAttribute("aria-posinset")) > index + 1);
      this.list.insertBefore(view.root, next ?? null);
    }
    const card = this.cards[index];
    const { length: count } = this.cards;
    const label = (this.labels[index] ?? "").replace(/^\d+ ?/, "");
    const { editable } = this.story;
    const isCurrent = index === this.current;
    view.update(card, this.states[index], { label, count, editable, isCurrent, startPicture: this.startPicture });
  }

  dropView(index, view) {
    view.remove();
    this.views.delete(index);
  }

  dropViews() {
    for (const [index, view] of this.views) this.dropView(index, view);
  }

  // --- choosing and editing --------------------------------------------------------------------------------

  choose(index) {
    if (index === this.current) return;
    this.current = index;
    this.draw();
  }

  /** Choose a card, roll to it and give it the focus. */
  focus(index) {
    this.current = Math.max(0, Math.min(index, this.cards.length - 1));
    this.drawNow();
    this.reveal(this.current);
    this.views.get(this.current)?.root.focus({ preventScroll: true });
  }

  reveal(index) {
    const [left, right] = [index * PITCH, index * PITCH + CARD_WIDTH];
    const { scrollLeft, clientWidth } = this.scroll;
    if (left < scrollLeft) this.scroll.scrollLeft = left;
    else if (right > scrollLeft + clientWidth) this.scroll.scrollLeft = right - clientWidth;
    this.look();
  }

  /** Let an edit of the story (see story.js) change the node's widgets. */
  change(edit) {
    const story = storyOf(this.node);
    if (!story.editable || !story.windows.length) return;
    writeStory(this.node, app.canvas, edit(story), story);
    this.drawNow();
  }

  // --- what the server reports (see runs.js) ---------------------------------------------------------------

  get settings() {
    return settingsOf(this.node);
  }

  begins(prompt) {
    if (this.prompt === prompt && this.run && !this.run.over) return;
    const again = this.prompt === prompt && this.run;
    this.prompt = prompt;
    this.run = again ? { ...this.run, over: "" } : { index: 0, share: 0, over: "" };
    this.draw();
  }

  windows({ prompt_id, windows, num_kept, num_windows }) {
    this.begins(prompt_id);
    const settings = settingsOfRun(prompt_id, this);
    this.results.add(windows, { settings, numKept: num_kept });
    const done = Math.max(this.run.index - 1, ...windows.map(({ index }) => index)) + 1;
    this.run = { ...this.run, index: done, share: 0, of: num_windows };
    if (done > 0) this.header.say(this.words.isDone(done, num_windows));
    this.draw();
  }

  progress(share, { ofAll }) {
    if (!this.run || this.run.over) return;
    const done = share * (this.run.of ?? this.cards.length);
    const begun = Math.min(Math.ceil(done - 1e-6) - 1, this.cards.length - 1);
    if (ofAll && begun > this.run.index) this.run.index = begun; // a page that was loaded while the run went on
    this.run.share = Math.min(1, Math.max(0, ofAll ? done - this.run.index : share));
    this.draw();
  }

  ends(how, why, prompt) {
    if (!this.run || this.run.over || (prompt && prompt !== this.prompt)) return;
    this.run = { ...this.run, over: how, why: why || this.run.why };
    if (how !== "done") this.header.say(`${this.words.window} ${this.run.index + 1}: ${this.words.states[how]}`);
    this.draw();
  }

  /** Keep what the server says of a run that is about to end early. */
  unfinished(prompt, text) {
    this.begins(prompt);
    this.run.why = text;
  }

  restarted() {
    if (this.run && !this.run.over) this.ends("stopped", this.words.restarted, this.prompt);
  }

  /** Check whether the files of the visible cards still exist. */
  check() {
    for (const { media } of this.views.values()) media.check();
  }

  executed(output) {
    const windows = output?.magic141_windows;
    if (!windows) return;
    const settings = settingsOfRun(this.prompt, this);
    const numbered = windows.map((window, index) => ({ index, ...window }));
    this.results.add(numbered, { settings, numKept: output.magic141_kept?.[0] ?? 0, all: true });
    this.run = null;
    this.draw();
  }
}

function hasFocus(root) {
  return root.contains(document.activeElement);
}

// One card: the elements of one window, and what the artist does to them.

import { clock, iconButton, make, set, setIcon, setLabel } from "./dom.js";
import { Media, viewUrl } from "./media.js";
import { inputFile } from "./node_story.js";
import { isSeed } from "./seed.js";

const [FIRST_HUE, HUES] = [60, 240]; // from yellow over green and blue to purple
const SEAM_SEEN = 2; // people start to see a seam that moves this many times too much or too little

/** The elements of one window. `acts` are the strip's functions; each is given the index of the card. */
export class Card {
  constructor(index, acts, words) {
    Object.assign(this, { index, acts, words });
    this.shot = this.makeShot();
    this.prompt = make("textarea", "magic141-prompt", {
      rows: 2,
      dir: "auto",
      spellcheck: false,
      oninput: () => acts.edit(index, this.prompt.value),
    });
    this.prompt.addEventListener("blur", () => acts.redraw());
    this.foot = this.makeFoot();
    this.root = make("li", "magic141-card", { role: "listitem", tabIndex: -1 }, [this.shot, this.prompt, this.foot]);
    this.media = new Media(this.shot, acts.lose);
    this.listen();
  }

  makeShot() {
    const chip = (name) => (this[name] = make("span", `magic141-chip magic141-${name}`));
    this.known = make("span", "magic141-known");
    this.bar = make("span", "magic141-bar");
    this.take = make("button", "magic141-button magic141-take", {
      type: "button",
      onclick: () => this.acts.nextTake(this.index),
    });
    return make("div", "magic141-shot", {}, [
      this.known,
      chip("number"),
      chip("state"),
      chip("label"),
      chip("time"),
      this.bar,
      this.take,
    ]);
  }

  makeFoot() {
    const { index, acts, words } = this;
    this.lock = iconButton("unlock", words.lock, () => acts.lock(index));
    this.seed = make("input", "magic141-seed", {
      type: "text",
      inputMode: "numeric",
      spellcheck: false,
      "aria-label": words.seed,
    });
    this.seed.addEventListener("change", () => this.takeSeed());
    this.dice = iconButton("dice", words.dice, () => acts.dice(index));
    this.end = iconButton("picture", words.addEnd, () => acts.pickEnd(index));
    this.end.classList.add("magic141-end");
    this.noEnd = iconButton("close", words.removeEnd, () => acts.setEnd(index, null));
    return make("div", "magic141-foot", {}, [this.lock, this.seed, this.dice, this.end, this.noEnd]);
  }

  takeSeed() {
    const text = this.seed.value.trim();
    const isValid = text === "" || isSeed(text);
    this.seed.setAttribute("aria-invalid", String(!isValid));
    setLabel(this.seed, isValid ? this.words.seed : this.words.wrongSeed);
    if (isValid) this.acts.setSeed(this.index, text ? String(BigInt(text)) : null);
  }

  listen() {
    const { root, index, acts } = this;
    root.addEventListener("pointerdown", (event) => acts.press(index, event));
    root.addEventListener("focusin", () => acts.choose(index));
    for (const name of ["dragenter", "dragover"]) root.addEventListener(name, (event) => this.offer(event, true));
    root.addEventListener("dragleave", (event) => this.offer(event, false));
    root.addEventListener("drop", (event) => {
      const file = [...(event.dataTransfer?.files ?? [])].find(({ type }) => type.startsWith("image/"));
      this.offer(event, false);
      if (file) acts.uploadEnd(index, file);
    });
  }

  /** Show that a picture may be dropped here, and hide it from the canvas, which would make a node of it. */
  offer(event, over) {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    event.stopPropagation();
    this.root.classList.toggle("magic141-drop", over);
  }

  /**
   * Show what a card says now.
   *
   * @param {object} card of ``cardsOf``.
   * @param {object} state of ``statesOf``.
   * @param {object} more label, count, isCurrent, editable, startPicture.
   */
  update(card, state, more) {
    const { words, root, index } = this;
    set(root.dataset, "state", state.state);
    root.classList.toggle("magic141-current", more.isCurrent);
    root.classList.toggle("magic141-locked", card.locked);
    set(root, "tabIndex", more.isCurrent ? 0 : -1);
    root.setAttribute("aria-posinset", index + 1);
    root.setAttribute("aria-setsize", more.count);
    root.setAttribute("aria-label", `${words.window} ${index + 1}, ${words.states[state.state]}: ${card.prompt}`);
    this.updateShot(card, state, more);
    this.updateEditors(card, more);
    this.take.hidden = state.takes.length < 2;
    set(this.take, "textContent", `${words.take} ${state.used + 1}/${state.takes.length}`);
    setLabel(this.take, words.otherTake);
    for (const control of [this.prompt, this.lock, this.seed, this.dice, this.end, this.noEnd, this.take])
      set(control, "tabIndex", more.isCurrent ? 0 : -1);
  }

  updateShot(card, state, more) {
    const { words, index, root } = this;
    const { result } = state;
    set(this.number, "textContent", String(index + 1));
    const percent = state.state === "running" && state.share ? ` ${Math.round(100 * state.share)} %` : "";
    set(this.state, "textContent", words.states[state.state] + percent);
    set(this.label, "textContent", more.label);
    this.label.hidden = !more.label;
    set(this.time, "textContent", words.seconds((card.end - card.start).toFixed(1).replace(/\.0$/, "")));
    this.bar.style.transform = `scaleX(${state.state === "running" ? Math.max(0.02, state.share) : 0})`;
    this.known.hidden = Boolean(result);
    this.known.style.width = `${Math.min(60, (100 * card.known) / (card.end - card.start))}%`;
    root.style.setProperty("--shot", colorOf(card.prompt));
    const seam = result?.measures?.seam_motion;
    if (seam === undefined) root.style.removeProperty("--seam");
    else root.style.setProperty("--seam", seamColor(seam));
    set(this.shot, "title", tooltip(card, state, words));
    if (result?.file) this.media.show({ file: result.file, stamp: result.stamp ?? 0, isVideo: true });
    else
      this.media.show(index === 0 && more.startPicture ? { file: more.startPicture, stamp: 0, isVideo: false } : null);
  }

  updateEditors(card, { editable }) {
    const { words } = this;
    if (document.activeElement !== this.prompt) set(this.prompt, "value", card.prompt);
    set(this.prompt, "placeholder", card.prompt && !this.prompt.value ? card.prompt : words.noPrompt);
    set(this.prompt, "readOnly", !editable);
    this.prompt.setAttribute("aria-label", `${words.prompt} ${this.index + 1}`);
    if (document.activeElement !== this.seed) set(this.seed, "value", card.seed ?? "");
    setIcon(this.lock, card.locked ? "lock" : "unlock");
    setLabel(this.lock, card.locked ? words.unlock : words.lock);
    this.lock.setAttribute("aria-pressed", String(card.locked));
    for (const control of [this.lock, this.seed, this.dice, this.end, this.noEnd]) set(control, "disabled", !editable);
    if (!card.locked && card.seed === null) this.lock.disabled = true;
    this.showEnd(card.end_picture);
  }

  showEnd(name) {
    this.noEnd.hidden = !name;
    if (this.shownEnd === name) return;
    this.shownEnd = name;
    this.end.querySelector("img")?.remove();
    this.end.setAttribute("aria-invalid", "false");
    if (name) {
      const onerror = () => this.missEnd(name);
      this.end.append(make("img", "", { alt: "", draggable: false, src: viewUrl(inputFile(name)), onerror }));
    }
    setLabel(this.end, name ? `${this.words.endsOn} ${name}` : this.words.addEnd);
  }

  /** Show that the end picture cannot be shown; at the next run the server says whether it exists. */
  missEnd(name) {
    if (this.shownEnd !== name) return;
    this.end.querySelector("img")?.remove();
    this.end.setAttribute("aria-invalid", "true");
    setLabel(this.end, this.words.noSuchEnd(name));
  }

  remove() {
    this.media.end();
    this.root.remove();
  }
}

function seamColor(ratio) {
  const badness = ratio > 0 ? Math.max(ratio, 1 / ratio) : Infinity;
  if (badness <= 1.5) return "#3c6";
  return badness <= SEAM_SEEN ? "#ec3" : "#e43";
}

/** Give equal prompts equal colors: never red, which would look like a failure, and gray without a prompt. */
function colorOf(prompt) {
  let hash = 7;
  for (const letter of prompt) hash = (hash * 31 + letter.codePointAt(0)) % HUES;
  return prompt ? `hsl(${FIRST_HUE + hash} 30% 26%)` : "hsl(0 0% 26%)";
}

/** Return all that is known of a window, a line each. */
function tooltip(card, { state, why, result }, words) {
  const lines = [
    `${words.window} ${card.index + 1}: ${clock(card.start)} – ${clock(card.end)}`,
    words.explained[state],
  ];
  if (why) lines.push(why);
  if (card.known > 0) lines.push(`${words.startsFrom} ${card.known.toFixed(2)} s`);
  const { seam_motion, turned_deg, color_shift } = result?.measures ?? {};
  if (seam_motion !== undefined) lines.push(`${words.seam}: ${seam_motion.toFixed(2)}x`);
  if (turned_deg !== undefined) lines.push(`${words.turned}: ${turned_deg.toFixed(0)}°`);
  if (color_shift !== undefined) lines.push(`${words.color}: ${color_shift.toFixed(1)} ΔE`);
  if (result?.start_difference != null) lines.push(`${words.startDiffers}: ${result.start_difference.toFixed(1)} ΔE`);
  return lines.filter(Boolean).join("\n");
}

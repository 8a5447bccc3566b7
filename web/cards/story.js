// Edits of the cards as text of the prompts box. Pure functions: a story goes in, a text and the number of windows come
// out.

import { keepLater, readBox, setOfWindow, windowSettings } from "./box.js";
import { writeWindows } from "./box_windows.js";
import { windowSeed } from "./seed.js";

/**
 * @typedef {object} Story
 * @property {string} text the prompts box.
 * @property {{start: number, end: number, known: number, prompt: string}[]} windows the plan of the run.
 * @property {(count: number) => [number, number][]} spansOf start and end of every window if there were so many.
 * @property {string|null} seed of the node, as text; null where another node gives it.
 */

/** Return one card per window: its place in time, prompt, seed, whether that seed is locked, and end picture. */
export function cardsOf({ text, windows, seed }) {
  const lines = readBox(text);
  const settings = windowSettings(lines);
  return windows.map((window, index) => {
    const own = settings.get(index + 1) ?? {};
    const locked = own.seed !== undefined;
    return { ...window, index, locked, end_picture: own.end ?? "", seed: locked ? own.seed : derived(seed, index) };
  });
}

const derived = (seed, index) => (seed === null ? null : windowSeed(seed, index));

export const keepLimit = (story) => keepLater(readBox(story.text));

/** Write another prompt on one card; the others keep theirs. */
export function editPrompt(story, index, prompt) {
  return edited(
    story,
    same(story).map((window, place) => (place === index ? { ...window, prompt } : window)),
  );
}

/** Let all later cards have the prompt of this one. */
export function spreadPrompt(story, index) {
  const { prompt } = story.windows[index];
  return edited(
    story,
    same(story).map((window, place) => (place > index ? { ...window, prompt } : window)),
  );
}

/** Add a card with the same prompt after this one. */
export function addCard(story, index) {
  const { prompt } = story.windows[index];
  return edited(story, same(story).toSpliced(index + 1, 0, { from: null, like: index, prompt }));
}

/** Move the part of a card's prompt from `at` on to a new card after it. */
export function splitCard(story, index, at) {
  const { prompt } = story.windows[index];
  const halves = [prompt.slice(0, at).trim() || prompt, prompt.slice(at).trim() || prompt];
  const windows = same(story).with(index, { from: index, prompt: halves[0] });
  return edited(story, windows.toSpliced(index + 1, 0, { from: null, like: index, prompt: halves[1] }));
}

/** Return where to split a prompt by default: after the sentence, comma or blank that is nearest its middle. */
export function splitPlace(prompt) {
  for (const mark of [/[.;。；]\s*(?=\S)/g, /[,，、]\s*(?=\S)/g, /\s+(?=\S)/g]) {
    const ends = [...prompt.matchAll(mark)].map((match) => match.index + match[0].length);
    if (ends.length) return ends.reduce((one, other) => (near(one, prompt) <= near(other, prompt) ? one : other));
  }
  return prompt.length;
}

const near = (place, prompt) => Math.abs(place - prompt.length / 2);

/** Take a card away; the last one stays. */
export function removeCard(story, index) {
  return story.windows.length > 1 ? edited(story, same(story).toSpliced(index, 1)) : unchanged(story);
}

/** Move a card to another place; its seed and end picture go with it. */
export function moveCard(story, from, to) {
  const windows = same(story);
  const [card] = windows.splice(from, 1);
  windows.splice(to, 0, card);
  return edited(story, windows);
}

/** Write what a take was made of on its card, so that the next run finds it. */
export function chooseTake(story, index, take) {
  const isDerived = derived(story.seed, index) === take.seed;
  let { text } = editPrompt(story, index, take.prompt);
  text = setOfWindow(text, { number: index + 1, name: "seed", value: isDerived ? null : take.seed });
  text = setOfWindow(text, { number: index + 1, name: "end", value: take.end || null });
  return { text, count: story.windows.length };
}

function same(story) {
  return story.windows.map(({ prompt }, from) => ({ from, prompt }));
}

function unchanged({ text, windows }) {
  return { text, count: windows.length };
}

function edited(story, windows) {
  const spans =
    windows.length === story.windows.length
      ? story.windows.map(({ start, end }) => [start, end])
      : story.spansOf(windows.length);
  return { text: writeWindows(story.text, story.windows, windows, spans), count: windows.length };
}

// The story of a node: read from its widgets, and written back into them.

import { planClips, planWindows } from "../window_plan.js";
import { sha256 } from "./seed.js";

const SAVE = "Magic141WindowSave";
const OF_THE_STORY = ["prompts", "length", "length_in", "seed"]; // the cards show what these change
const STEP_S = 0.1; // of the widget length
const MOST_STEPS = 200;

const widgetOf = (node, name) => node?.widgets?.find((widget) => widget.name === name);
const valueOf = (node, name) => widgetOf(node, name)?.value;
const isLinked = (node, ...names) =>
  Boolean(node.inputs?.some((input) => names.includes(input.name) && input.link != null));

/** Return the present story (see story.js) of a node, and whether its prompts and length can be edited here. */
export function storyOf(node) {
  const text = String(valueOf(node, "prompts") ?? "");
  const length = Number(valueOf(node, "length"));
  return {
    text,
    windows: planOf(node, text, length),
    spansOf: (count) => planOf(node, "", lengthFor(node, count)).map(({ start, end }) => [start, end]),
    seed: isLinked(node, "seed") ? null : String(valueOf(node, "seed")),
    editable: !isLinked(node, "prompts"),
    countable: !isLinked(node, "length"),
  };
}

function planOf(node, prompts, length) {
  const number = (name, owner = node) => Number(valueOf(owner, name) ?? 0);
  const both = {
    prompts,
    length,
    inWindows: valueOf(node, "length_in") === "windows",
    windowLength: number("window_length"),
    fps: number("fps"),
  };
  if (!widgetOf(node, "known_frames")) {
    const continues = isLinked(node, "video", "latent");
    return planWindows({ ...both, overlap: number("overlap"), continues, hasEndImage: isLinked(node, "end_image") });
  }
  const save = node.getOutputNodes?.(0)?.find((user) => user.comfyClass === SAVE);
  const frames = {
    knownFrames: number("known_frames"),
    dropNew: number("drop_new", save),
    blend: number("blend", save),
  };
  return planClips({ ...both, ...frames, continues: isLinked(node, "video") });
}

/** Return the value of the widget length that gives this many windows. */
function lengthFor(node, count) {
  const length = Number(valueOf(node, "length"));
  const now = planOf(node, "", length);
  if (valueOf(node, "length_in") === "windows" || count === now.length) return length + count - now.length;
  const whole = Math.max(...now.map(({ start, end }) => end - start));
  let steps = Math.max(1, Math.round((length + whole * (count - now.length)) / STEP_S));
  for (let tries = 0; tries < MOST_STEPS; tries += 1) {
    const number = planOf(node, "", steps * STEP_S).length;
    if (number === count) break;
    steps = Math.max(1, steps + Math.sign(count - number));
  }
  return Math.round(steps * STEP_S * 1000) / 1000;
}

/** Write a story back; the frontend takes it as one step that can be undone. */
export function writeStory(node, canvas, { text, count }, story) {
  canvas?.emitBeforeChange?.();
  if (count !== story.windows.length) setWidget(node, "length", lengthFor(node, count));
  if (text !== story.text) setWidget(node, "prompts", text);
  canvas?.emitAfterChange?.();
}

function setWidget(node, name, value) {
  const widget = widgetOf(node, name);
  widget.value = value;
  widget.callback?.(value);
}

/** Return a hash of the settings outside the story; if it changes, windows are made anew. */
export function settingsOf(node) {
  const widgets = (node.widgets ?? []).filter(
    ({ name, serialize }) => serialize !== false && !OF_THE_STORY.includes(name),
  );
  return sha256(JSON.stringify(widgets.map(({ name, value }) => [name, value])))[0];
}

/** Return the picture that the video begins with, if the connected node names a file. */
export function startPicture(node) {
  const slot = node.inputs?.findIndex(({ name }) => name === "image") ?? -1;
  const name = slot < 0 ? null : valueOf(node.getInputNode?.(slot), "image");
  return typeof name === "string" && name ? inputFile(name) : null;
}

/** Return the file of a picture in the input folder, by its name in Load Image. */
export function inputFile(name) {
  const parts = name.split("/");
  return { filename: parts.at(-1), subfolder: parts.slice(0, -1).join("/"), type: "input" };
}

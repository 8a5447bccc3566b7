// The timeline on Sliding Window Extend and Window Start: windows, overlaps and prompts before a run; seams, drift and
// frames of the windows that are finished.

import { api } from "../../scripts/api.js";
import { windowLabels } from "./prompt_labels.js";
import { planClips, planWindows } from "./window_plan.js";

const HEIGHT = 92;
const MAX_LABELLED = 40;
const MAX_DRAWN = 300; // more boxes are narrower than a pixel, and a day of short windows has 170,000
const MAX_THUMBNAILS = 16;
const SEAM_SEEN = 2; // a seam that moves this many times too much or too little starts to be seen
const STYLE = {
  root: "display:flex;flex-direction:column;gap:4px;height:100%;font:11px sans-serif;overflow:hidden",
  bar: "display:flex;flex:1;min-height:44px;border-radius:4px;overflow:hidden;background:#0004",
  window:
    "position:relative;min-width:2px;overflow:hidden;border-left:1px solid #0008;padding:2px 3px;color:#fff;" +
    "background-size:cover;background-position:center",
  known: "position:absolute;left:0;top:0;bottom:0;background:repeating-linear-gradient(45deg,#fff6 0 2px,#0000 2px 5px)",
  label: "position:relative;white-space:nowrap;text-overflow:ellipsis;overflow:hidden;text-shadow:0 0 3px #000",
  caption: "opacity:.8;white-space:nowrap;overflow:hidden;text-overflow:ellipsis",
};

const SAVE = "Magic141WindowSave";

/** Add the timeline to a node and keep it in step with the node's widgets and results. */
export function addTimeline(node, words) {
  const root = element("div", STYLE.root);
  root.className = "magic141-timeline";
  const widget = node.addDOMWidget("timeline", "magic141_timeline", root, {
    serialize: false,
    getMinHeight: () => HEIGHT,
    getMaxHeight: () => HEIGHT,
  });
  widget.serialize = false;
  let result = null;
  const draw = () => render(root, plan(node), result, words);
  for (const own of node.widgets) chain(own, "callback", draw);
  chain(node, "onConnectionsChange", draw);
  chain(node, "onConfigure", draw);
  node.showWindows = (output) => {
    const newest = output?.magic141_newest?.[0];
    if (newest?.index > 0 && result) result.windows[newest.index] = newest;
    else if (newest) result = { windows: Object.assign([], { [newest.index]: newest }), thumbnails: [] };
    else result = output?.magic141_windows ? { windows: output.magic141_windows, thumbnails: [] } : null;
    if (result) result.kept = output.magic141_kept?.[0] ?? 0;
    draw();
    if (result) takeThumbnails(result, output, draw);
  };
  chain(node, "onExecuted", node.showWindows);
  draw();
}

/** Show what a Window Save tells of the windows on the timeline of its Window Start. */
export function tellTimeline(node) {
  chain(node, "onExecuted", (output) => {
    const slot = node.inputs?.findIndex((input) => input.name === "window") ?? -1;
    if (slot >= 0) node.getInputNode(slot)?.showWindows?.(output);
  });
}

function plan(node) {
  const value = (name, owner = node) => owner?.widgets?.find((widget) => widget.name === name)?.value;
  const linked = (name) => node.inputs?.some((input) => input.name === name && input.link != null);
  const both = {
    length: Number(value("length")),
    inWindows: value("length_in") === "windows",
    windowLength: Number(value("window_length")),
    fps: Number(value("fps")),
    prompts: String(value("prompts") ?? ""),
  };
  if (value("known_frames") === undefined) {
    const continues = linked("video") || linked("latent");
    return planWindows({ ...both, overlap: Number(value("overlap")), continues, hasEndImage: linked("end_image") });
  }
  const save = node.getOutputNodes?.(0)?.find((user) => user.comfyClass === SAVE);
  const [knownFrames, dropNew, blend] = [value("known_frames"), value("drop_new", save), value("blend", save)].map(
    (number) => Number(number ?? 0),
  );
  return planClips({ ...both, knownFrames, dropNew, blend, continues: linked("video") });
}

function render(root, windows, result, words) {
  const bar = element("div", STYLE.bar);
  const step = Math.ceil(windows.length / MAX_DRAWN) || 1;
  const labels = windows.length <= MAX_LABELLED ? windowLabels(windows.map((window) => window.prompt)) : [];
  for (let index = 0; index < windows.length; index += step) {
    const last = windows[Math.min(index + step, windows.length) - 1];
    bar.append(block({ ...windows[index], end: last.end, label: labels[index] }, index, result, words));
  }
  const caption = element("div", STYLE.caption);
  caption.textContent = windows.length ? words.windows(windows.length, clock(windows.at(-1).end)) : words.nothing;
  if (result?.kept) caption.textContent += words.kept(result.kept);
  root.replaceChildren(bar, caption);
}

function block(window, index, result, words) {
  const { start, end, known, prompt, label } = window;
  const box = element("div", `${STYLE.window};flex:${end - start};background-color:${colorOf(prompt)}`);
  box.className = "magic141-window";
  const lines = [`${words.window} ${index + 1}: ${clock(start)} – ${clock(end)}`, prompt];
  if (known > 0) {
    lines.push(`${words.told} ${known.toFixed(2)} s`);
    const share = Math.min(60, (100 * known) / (end - start));
    if (label) box.append(element("div", `${STYLE.known};width:${share}%`));
  }
  const measures = result?.windows[index]?.measures;
  if (measures) lines.push(...marked(box, measures, words));
  const thumbnail = result?.thumbnails[index];
  if (thumbnail) box.style.backgroundImage = `url(${thumbnail})`;
  if (label) {
    const text = element("div", STYLE.label);
    text.textContent = label;
    box.append(text);
  }
  box.title = lines.filter(Boolean).join("\n");
  return box;
}

/** Color the seam of a window by its motion, and return what to say of it. */
function marked(box, measures, words) {
  const said = [];
  if (measures.seam_motion !== undefined) {
    const ratio = measures.seam_motion;
    const badness = ratio > 0 ? Math.max(ratio, 1 / ratio) : Infinity;
    box.style.borderLeft = `3px solid ${badness <= 1.5 ? "#3c6" : badness <= SEAM_SEEN ? "#ec3" : "#e43"}`;
    said.push(`${words.seam}: ${ratio.toFixed(2)}x`);
  }
  if (measures.turned_deg !== undefined) said.push(`${words.turned}: ${measures.turned_deg.toFixed(0)}°`);
  if (measures.color_shift !== undefined) said.push(`${words.color}: ${measures.color_shift.toFixed(1)} ΔE`);
  return said;
}

/** Draw the first frame of every window (of a share of them, if many) from the video that was saved, or of the newest. */
async function takeThumbnails(result, output, draw) {
  const file = output.images?.[0];
  if (!file) return;
  const query = new URLSearchParams({ filename: file.filename, subfolder: file.subfolder ?? "", type: file.type });
  const video = document.createElement("video");
  video.muted = true;
  video.preload = "auto";
  video.src = api.apiURL(`/view?${query}`);
  const canvas = document.createElement("canvas");
  const newest = output.magic141_newest?.[0];
  const every = Math.ceil(result.windows.length / MAX_THUMBNAILS);
  try {
    await once(video, "loadeddata");
    for (let index = newest?.index ?? 0; index < result.windows.length; index += every) {
      video.currentTime = (newest ? 0 : result.windows[index].start_s) + 0.001;
      await once(video, "seeked");
      canvas.height = 60;
      canvas.width = Math.max(1, Math.round((60 * video.videoWidth) / video.videoHeight));
      canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
      result.thumbnails[index] = canvas.toDataURL("image/jpeg", 0.7);
    }
    draw();
  } catch (error) {
    console.debug("Magic141: no thumbnails, this browser cannot play the video.", error);
  } finally {
    video.removeAttribute("src");
    video.load();
  }
}

function once(target, name) {
  return new Promise((resolve, reject) => {
    target.addEventListener(name, resolve, { once: true });
    target.addEventListener("error", () => reject(target.error), { once: true });
  });
}

/** Call more after a method that may or may not be there. */
function chain(owner, name, more) {
  const before = owner[name];
  owner[name] = function (...given) {
    const value = before?.apply(this, given);
    more(...given);
    return value;
  };
}

/** Give equal prompts equal colors. */
function colorOf(prompt) {
  let hash = 7;
  for (const letter of prompt) hash = (hash * 31 + letter.codePointAt(0)) % 360;
  return `hsl(${hash} 35% 38%)`;
}

function clock(seconds) {
  const whole = Math.floor(seconds / 60);
  return `${whole}:${(seconds - 60 * whole).toFixed(1).padStart(4, "0")}`;
}

function element(tag, style) {
  const made = document.createElement(tag);
  made.style.cssText = style;
  return made;
}

// Write windows back into the prompts box, in the artist's form: one line per window, or lines with time ranges.

import { asPromptLine, inserted, parseLine, readBox, without, writeBox } from "./box.js";

const NEAR = 1e-6; // seconds

/**
 * Write other windows into the box.
 *
 * @param {string} text the box.
 * @param {{start: number, end: number, prompt: string}[]} before the windows that the box stands for.
 * @param {{from: number|null, like?: number, prompt: string}[]} windows the new ones: `from` is the place a window had
 *     before, null for an added one; `like` is the window whose time range an added one shares.
 * @param {[number, number][]} spans start and end of the new windows in seconds.
 */
export function writeWindows(text, before, windows, spans) {
  const lines = renumbered(readBox(text), windows, before.length);
  const wanted = windows.map((window) => ({ ...window, prompt: asPromptLine(window.prompt) }));
  const timed = lines.some((line) => line.kind === "timed");
  return writeBox(timed ? writeTimed(lines, before, wanted, spans) : writePlain(lines, wanted, before.length));
}

/** Move the settings of single windows along with their windows. */
function renumbered(lines, windows, count) {
  const places = new Map(windows.flatMap(({ from }, index) => (from === null ? [] : [[from, index]])));
  let result = lines;
  for (let at = lines.length - 1; at >= 0; at -= 1) {
    const { kind, number, raw } = lines[at];
    if (kind !== "window" || number < 1 || number > count) continue;
    const place = places.get(number - 1);
    if (place === undefined) result = without(result, at);
    else if (place + 1 !== number)
      result = result.with(at, { ...result[at], number: place + 1, raw: raw.replace(/\d+/, place + 1) });
  }
  return result;
}

function writePlain(lines, windows, countBefore) {
  const slots = lines.flatMap((line, at) => (line.kind === "plain" ? [at] : []));
  const prompts = filled(windows.map((window) => window.prompt));
  const needed = countWithoutRepeats(prompts);
  const windowSlots = slots.slice(0, countBefore); // lines that no window takes stay as they are
  const stay = windows.filter(({ from }) => from !== null && from < windowSlots.length).length;
  const kept = prompts.slice(0, Math.max(needed, stay));
  let written = lines;
  kept.slice(0, windowSlots.length).forEach((prompt, index) => {
    written = written.with(windowSlots[index], withText(written[windowSlots[index]], prompt));
  });
  for (const at of windowSlots.slice(kept.length).reverse()) written = without(written, at);
  let place = windowSlots.length ? windowSlots.at(-1) + 1 : 0;
  for (const prompt of kept.slice(windowSlots.length)) written = inserted(written, place++, prompt);
  return written;
}

/** Give a window without a prompt that of the one before: in this form an empty prompt has no line. */
function filled(prompts) {
  let before = prompts.find(Boolean) ?? "";
  return prompts.map((prompt) => (before = prompt || before));
}

/** Return how many lines are needed for all prompts, as the last line holds to the end. */
function countWithoutRepeats(prompts) {
  let count = prompts.length;
  while (count > 1 && prompts[count - 1] === prompts[count - 2]) count -= 1;
  return count === 1 && !prompts[0] ? 0 : count;
}

/** Return a line with another prompt; the text around it stays. */
function withText(line, text) {
  if (line.text === text) return line;
  const body = line.raw.trimEnd();
  const head = body.slice(0, body.length - line.text.length);
  const gap = line.kind === "timed" && !/\s$/.test(head) ? " " : "";
  return { ...line, text, raw: head + gap + text + line.raw.slice(body.length) };
}

function writeTimed(lines, before, windows, spans) {
  const ranges = lines.filter((line) => line.kind === "timed").sort((one, other) => one.range[0] - other.range[0]);
  const sources = before.map(({ start, end }) => rangeAt(ranges, (start + end) / 2));
  const runs = runsOf(windows, sources, lines.find((line) => line.kind === "plain")?.text);
  const clockwise = ranges.some((line) => line.written[0].includes(":"));
  for (const run of runs) Object.assign(run, timesOf(run, { before, windows, spans, sources, clockwise }));
  runs.slice(1).forEach((run, index) => {
    if (runs[index].to.seconds > run.from.seconds + NEAR) runs[index].to = run.from;
  });
  return withRuns(lines, runs, sources);
}

function rangeAt(ranges, middle) {
  const line = ranges.findLast((other) => other.range[0] <= middle) ?? null;
  return line && middle < line.range[1] ? line : null;
}

/** Group windows that one line covers. A window whose prompt comes without a line of its own is in no group. */
function runsOf(windows, sources, filler) {
  const sourceOf = ({ from, like }) => sources[from ?? like] ?? null;
  const first = windows.find((window) => sourceOf(window))?.prompt;
  const runs = [];
  windows.forEach((window, index) => {
    const source = sourceOf(window);
    const implied = filler ?? (index ? windows[index - 1].prompt : first);
    if (!source && window.prompt === implied) return;
    const run = runs.at(-1);
    if (run && run.last === index - 1 && run.source === source && run.text === window.prompt) run.last = index;
    else runs.push({ source, text: window.prompt, first: index, last: index });
  });
  return runs;
}

/** Return where a run starts and ends, as the artist wrote it where nothing moved. */
function timesOf({ source, first, last }, { before, windows, spans, sources, clockwise }) {
  const written = (seconds) => ({ seconds, text: timeText(seconds, clockwise) });
  const [start, end] = [spans[first][0], spans[last][1]];
  if (!source) return { from: written(start), to: written(end) };
  const stays = (index, place, side) =>
    windows[index].from === place && Math.abs(before[place][side] - (side === "start" ? start : end)) < NEAR;
  const open = source.range[1] === Infinity;
  const keepsStart = stays(first, sources.indexOf(source), "start");
  const keepsEnd = open ? last === windows.length - 1 : stays(last, sources.lastIndexOf(source), "end");
  return {
    from: keepsStart ? { seconds: source.range[0], text: source.written[0] } : written(start),
    to: keepsEnd ? { seconds: open ? end : source.range[1], text: source.written[1] ?? "" } : written(end),
  };
}

function timeText(seconds, clockwise) {
  const hundredths = Math.round(100 * seconds);
  const minutes = clockwise ? Math.floor(hundredths / 6000) : 0;
  const [whole, part] = ((hundredths - 6000 * minutes) / 100).toFixed(2).split(".");
  const rest = part.replace(/0+$/, "");
  return (clockwise ? `${minutes}:${whole.padStart(2, "0")}` : whole) + (rest ? `.${rest}` : "");
}

/** Put a line for every run in the place of the lines that covered these windows. */
function withRuns(lines, runs, sources) {
  const written = new Map(); // a line of the box -> the lines that replace it
  const firstTimed = lines.find((line) => line.kind === "timed");
  let place = null;
  for (const run of runs) {
    const line = run.source && !written.has(run.source) ? rewritten(run.source, run) : newLine(run);
    place = run.source ?? place;
    const key = place ?? "first";
    written.set(key, [...(written.get(key) ?? []), line]);
  }
  let result = lines;
  for (let at = lines.length - 1; at >= 0; at -= 1) {
    const line = lines[at];
    if (line.kind !== "timed") continue;
    const before = (line === firstTimed && written.get("first")) || [];
    const now = [...before, ...(written.get(line) ?? (sources.includes(line) ? [] : [line]))];
    result = now.length ? replaced(result, at, now) : without(result, at);
  }
  return result;
}

function replaced(lines, at, now) {
  let result = lines.with(at, { ...now[0], end: lines[at].end });
  now.slice(1).forEach((line, index) => (result = inserted(result, at + 1 + index, line.raw)));
  return result;
}

function newLine({ from, to, text }) {
  const raw = `[${from.text}-${to.text}] ${text}`.trimEnd();
  return { raw, ...parseLine(raw) };
}

function rewritten(line, run) {
  const [from, to = ""] = line.written;
  if (from === run.from.text && to === run.to.text) return withText(line, run.text);
  const indent = line.raw.slice(0, line.raw.length - line.raw.trimStart().length);
  const fresh = newLine(run);
  return { ...fresh, raw: indent + fresh.raw };
}

// The prompts box as lines, and what it sets for single windows. Pure functions. model_patches/window/prompts.py reads
// the same text, and a test keeps the two alike. Text that an edit does not concern stays as it is, letter for letter.

const TIME = "(?:\\d+:)?\\d+(?:\\.\\d+)?";
const RANGE = new RegExp(`^(${TIME}) ?s? ?(?:-|–|to) ?(?:(${TIME}) ?s?|end)? ?$`); // of a text without double blanks
const LONGEST_RANGE = 100;
const WINDOW = /^\[[ \t]*window[ \t]*(\d+)[ \t]*\]\s*(\S*)\s*([^]*)$/i;
const KEEP = /^\[[ \t]*keep[ \t]+later[ \t]*\]\s*([^]*)$/i;
const SETTINGS = ["seed", "end"];

/**
 * Split the box into lines.
 *
 * @returns {object[]} each with `raw` and `end` (its line break), and its `kind`: "blank", "plain" and "timed" (with
 *     `text`, a timed one with `range` in seconds), "window" (with `number`, `name`, `value`) or "keep" (with `value`).
 */
export function readBox(text) {
  const parts = text.split(/(\r\n|\r|\n)/);
  return parts.flatMap((raw, index) =>
    index % 2 ? [] : [{ raw, end: parts[index + 1] ?? "", ...parseLine(raw.trim()) }],
  );
}

export function writeBox(lines) {
  return lines.map((line) => line.raw + line.end).join("");
}

/** Read a line that has no blanks around it. */
export function parseLine(line) {
  if (!line) return { kind: "blank" };
  const single = WINDOW.exec(line);
  if (single) return { kind: "window", number: Number(single[1]), name: single[2].toLowerCase(), value: single[3] };
  const keep = KEEP.exec(line);
  if (keep) return { kind: "keep", value: keep[1] };
  const close = line.startsWith("[") ? line.indexOf("]") : -1;
  const inside = line.slice(1, Math.max(1, close)).trim().split(/\s+/).join(" ");
  const match = inside.length <= LONGEST_RANGE ? RANGE.exec(inside) : null;
  if (close < 0 || !match) return { kind: "plain", text: line };
  const range = [seconds(match[1]), match[2] ? seconds(match[2]) : Infinity];
  return { kind: "timed", text: line.slice(close + 1).trim(), range, written: inside.split(/ ?(?:-|–|to) ?/) };
}

function seconds(text) {
  const [tail, minutes] = text.split(":").reverse();
  return 60 * Number(minutes ?? 0) + Number(tail);
}

/** Return what is set for single windows: number -> {seed, end}, as text. */
export function windowSettings(lines) {
  const settings = new Map();
  for (const { kind, number, name, value } of lines)
    if (kind === "window") settings.set(number, { [name]: value, ...settings.get(number) });
  return settings;
}

/** Return the limit of `[keep later]` as text, or null where later windows are always made again. */
export function keepLater(lines) {
  return lines.find((line) => line.kind === "keep")?.value ?? null;
}

/** Set the seed or the end picture of a window (numbers begin with 1); null takes the line away. */
export function setOfWindow(text, { number, name, value }) {
  if (!SETTINGS.includes(name)) throw new Error(`A window has no setting ${name}.`);
  const lines = readBox(text);
  const at = lines.findIndex((line) => line.kind === "window" && line.number === number && line.name === name);
  const next = lines.findIndex((line) => line.kind === "window" && line.number > number);
  return setLine(lines, { at, next, head: `[window ${number}] ${name}`, value });
}

/** Set the limit up to which later windows are kept; null takes the line away. */
export function setKeepLater(text, value) {
  const lines = readBox(text);
  const at = lines.findIndex((line) => line.kind === "keep");
  return setLine(lines, { at, next: -1, head: "[keep later]", value });
}

/** Write a line that sets something: `at` is its place, `next` that of the line a new one goes before; -1 for none. */
function setLine(lines, { at, next, head, value }) {
  if (value === null) return writeBox(at < 0 ? lines : without(lines, at));
  if (at < 0) return writeBox(inserted(lines, next < 0 ? afterLast(lines) : next, `${head} ${value}`));
  return writeBox(lines.with(at, { ...lines[at], raw: replaceEnd(lines[at].raw, lines[at].value, ` ${value}`) }));
}

function replaceEnd(raw, value, wanted) {
  const body = raw.trimEnd();
  return body.slice(0, body.length - value.length).trimEnd() + wanted + raw.slice(body.length);
}

/** Return the lines with one more; the line breaks of the others stay. */
export function inserted(lines, at, raw) {
  const line = { raw, ...parseLine(raw.trim()) };
  const lineBreak = lines.find((other) => other.end)?.end ?? "\n";
  if (at < lines.length && !(lines.length === 1 && !lines[0].raw))
    return lines.toSpliced(at, 0, { ...line, end: lineBreak });
  if (lines.length === 1 && !lines[0].raw) return [{ ...line, end: "" }];
  return [...lines.slice(0, -1), { ...lines.at(-1), end: lineBreak }, { ...line, end: "" }];
}

/** Return the lines without one, and without the line break that led to it. */
export function without(lines, at) {
  const remaining = lines.toSpliced(at, 1);
  if (at === remaining.length && at > 0) remaining[at - 1] = { ...remaining[at - 1], end: "" };
  return remaining.length ? remaining : [{ raw: "", end: "", kind: "blank" }];
}

/** Return the place after the last line that is not blank. */
function afterLast(lines) {
  return lines.findLastIndex((line) => line.kind !== "blank") + 1;
}

/** Return a text as one prompt line: line breaks become blanks, brackets that would set something become round ones. */
export function asPromptLine(text) {
  let line = text.replace(/\s*[\r\n]+\s*/g, " ").trim();
  while (!["plain", "blank"].includes(parseLine(line).kind)) line = line.replace("[", "(").replace("]", ")");
  return line;
}

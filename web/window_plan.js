// The windows of Sliding Window Extend and Window Start, computed as in model_patches/window/plan.py and clips.py; a test
// keeps them alike.

import { readBox, windowSettings } from "./cards/box.js";

const FRAMES_PER_LATENT = 4;

/**
 * Plan the windows of a run.
 *
 * @param {object} settings length, inWindows, windowLength (frames), overlap (latent frames), fps, prompts;
 *     continues: a video or latent is connected; hasEndImage: an end image is.
 * @returns {{start: number, end: number, known: number, prompt: string}[]} times in seconds; `known` is how much of
 *     the video before it a window knows.
 */
export function planWindows({ length, inWindows, windowLength, overlap, fps, prompts, continues, hasEndImage }) {
  const windowLatent = latentFrames(windowLength);
  const run = { length, inWindows, windowLatent, overlap, fps, continues };
  const ofLast = windowSettings(readBox(prompts)).get(windowSizes({ ...run, hasEndImage: false }).length);
  const sizes = windowSizes({ ...run, hasEndImage: hasEndImage || ofLast?.end !== undefined });
  const spans = [];
  let frame = 0;
  sizes.forEach((latent, index) => {
    const frames = index === 0 && !continues ? pixelFrames(latent) : FRAMES_PER_LATENT * latent;
    spans.push([frame / fps, (frame + frames) / fps]);
    frame += frames;
  });
  const texts = assignPrompts(prompts, spans);
  return spans.map(([start, end], index) => {
    const known = index === 0 && !continues ? 0 : pixelFrames(overlap) / fps;
    return { start, end, known, prompt: texts[index] };
  });
}

/**
 * Plan the windows that a graph makes.
 *
 * @param {object} settings length, inWindows, windowLength, knownFrames, dropNew, blend (frames), fps, prompts;
 *     continues: a video is connected.
 * @returns as ``planWindows``.
 */
export function planClips({ length, inWindows, windowLength, knownFrames, dropNew, blend, fps, prompts, continues }) {
  const step = windowLength - knownFrames - dropNew;
  if (step < 1 || knownFrames < 1 || !(fps > 0)) return [];
  const first = continues ? step : windowLength;
  const frames = inWindows
    ? first + (Math.max(1, roundHalfEven(length)) - 1) * step
    : Math.max(1, roundHalfEven(length * fps));
  const ends = [];
  for (let end = first - blend; end + blend < frames; end += step) ends.push(end);
  const spans = [...ends, frames].map((end, index) => [(ends[index - 1] ?? 0) / fps, end / fps]);
  const texts = assignPrompts(prompts, spans);
  return spans.map(([start, end], index) => {
    const known = index === 0 && !continues ? 0 : knownFrames / fps;
    return { start, end, known, prompt: texts[index] };
  });
}

function latentFrames(frames) {
  return Math.floor((frames - 1) / FRAMES_PER_LATENT) + 1;
}

function pixelFrames(latent) {
  return FRAMES_PER_LATENT * (latent - 1) + 1;
}

function windowSizes({ length, inWindows, windowLatent, overlap, fps, continues, hasEndImage }) {
  const step = windowLatent - overlap;
  if (step < 1 || overlap < 1 || !(fps > 0)) return [];
  const first = continues ? step : windowLatent;
  let missing = inWindows ? first + (Math.max(1, roundHalfEven(length)) - 1) * step : newLatentFrames(length, fps, continues);
  const sizes = [Math.min(first, missing)];
  for (missing -= sizes[0]; missing > 0; missing -= step) sizes.push(Math.min(step, missing));
  const [before, last] = sizes.slice(-2);
  if (hasEndImage && sizes.length > 1) {
    const moved = Math.min(Math.floor((before - last + 1) / 2), step - last);
    sizes.splice(-2, 2, before - moved, last + moved);
  }
  return sizes;
}

function newLatentFrames(seconds, fps, continues) {
  const frames = seconds * fps;
  const latent = continues ? frames / FRAMES_PER_LATENT : (frames - 1) / FRAMES_PER_LATENT + 1;
  return Math.max(1, roundHalfEven(latent));
}

function roundHalfEven(value) {
  const floor = Math.floor(value);
  if (value - floor !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}

function assignPrompts(prompts, spans) {
  const lines = readBox(prompts);
  const timed = lines.filter((line) => line.kind === "timed");
  const untimed = lines.filter((line) => line.kind === "plain").map((line) => line.text);
  if (!timed.length) return spans.map((_, index) => untimed[Math.min(index, untimed.length - 1)] ?? "");
  timed.sort((one, other) => one.range[0] - other.range[0]);
  let before = timed[0].text;
  let next = 0;
  return spans.map(([start, end]) => {
    const middle = (start + end) / 2;
    while (next < timed.length && timed[next].range[0] <= middle) next += 1;
    const inside = next && middle < timed[next - 1].range[1] ? timed[next - 1] : null;
    before = inside?.text ?? untimed[0] ?? before;
    return before;
  });
}

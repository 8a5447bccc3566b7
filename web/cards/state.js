// The state of every card: waiting, running, done, stale, failed. Pure functions of the story, of the windows that the
// server reported, and of the current run.

const CHOSEN_AT_RANDOM = /\{|\/\/|\/\*/; // the frontend picks {one|another} and leaves comments out

/**
 * Return the state of every card.
 *
 * @param {object[]} cards of ``cardsOf``.
 * @param {Map<number, object>} results by index: a finished window as the server reported it.
 * @param {object} more `run`: {index, share, over, why}, null if there was none; `over` says how it ended;
 *     `settings`: the hash of the node's present ones; `gone`: files that no longer exist.
 * @returns {{state: string, result: object|null, takes: object[], used: number, share: number, why: string}[]} `result`
 *     is what is shown, `takes` are those to choose from, and `used` is the index of the one that is on the card.
 */
export function statesOf(cards, results, { run, settings, gone }) {
  let follows = true; // whether all earlier windows are made of what is on their cards
  return cards.map((card) => {
    const newest = results.get(card.index) ?? null;
    const isUpToDate = newest !== null && newest.settings === settings && isMadeOf(newest, card);
    const take = isUpToDate ? null : takeOf(newest, card);
    const state = stateOf(card, { newest, isUpToDate, take, follows, run });
    follows &&= isUpToDate;
    const shown = isUpToDate ? newest : (take ?? samePrompted(results, card) ?? newest);
    const takes = newest ? [newest, ...(newest.takes ?? [])] : [];
    const used = Math.max(0, takes.indexOf(isUpToDate ? newest : take));
    if (shown?.file && gone.has(fileKey(shown.file)) && state.state !== "running")
      return { state: "gone", result: null, takes, used, share: 0, why: "" };
    return { share: 0, why: "", takes, used, ...state, result: state.state === "running" ? null : shown };
  });
}

function stateOf(card, { newest, isUpToDate, take, follows, run }) {
  if (run && !run.over && card.index === run.index) return { state: "running", share: run.share };
  if (run && !run.over && card.index > run.index) return { state: newest ? "stale" : "waiting" };
  if (run?.over && run.over !== "done" && card.index === run.index) return { state: run.over, why: run.why ?? "" };
  if (isUpToDate) return { state: follows ? "done" : "stale" };
  if (take && follows) return { state: "chosen" };
  return { state: newest ? "stale" : "waiting" };
}

/** Return whether a window, or a take of it, was made of what is on a card. */
function isMadeOf(made, card) {
  const samePrompt = CHOSEN_AT_RANDOM.test(card.prompt) || made.prompt === card.prompt;
  const sameSeed = card.seed === null || made.seed === card.seed;
  return samePrompt && sameSeed && (made.end ?? "") === card.end_picture;
}

/** Return the older take that was made of what is on a card. */
function takeOf(result, card) {
  return result?.takes?.find((take) => isMadeOf(take, card)) ?? null;
}

/** Return another window with this prompt: the card was moved, so the window at its place is of another card. */
function samePrompted(results, card) {
  if (results.get(card.index)?.prompt === card.prompt) return null;
  for (const result of results.values()) if (result.prompt && result.prompt === card.prompt) return result;
  return null;
}

export function fileKey({ filename, subfolder, type }) {
  return `${type}/${subfolder}/${filename}`;
}

/**
 * Return the figures of the whole video.
 *
 * @returns {{secondsLeft: number|null, bytes: number|null, drift: number[]}} estimated from the windows that are
 *     finished; null before the first.
 */
export function figuresOf(states, results) {
  const made = [...results.values()];
  const mean = (name) => {
    const known = made.map((result) => result[name]).filter((value) => value > 0);
    return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
  };
  const missing = states.filter(({ state }) => state !== "done" && state !== "chosen");
  const left = missing.reduce((sum, { share }) => sum + 1 - share, 0);
  const [seconds, bytes] = [mean("seconds"), mean("bytes")];
  const drift = [...results.entries()]
    .sort(([one], [other]) => one - other)
    .flatMap(([, { measures }]) => measures?.color_shift ?? []);
  return {
    secondsLeft: seconds === null ? null : seconds * left,
    bytes: bytes === null ? null : bytes * states.length,
    drift,
  };
}

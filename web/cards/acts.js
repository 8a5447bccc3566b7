// What an artist can do with the cards of a strip: each act is an edit of the prompts box, or leads to one.

import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";
import { setKeepLater, setOfWindow } from "./box.js";
import { startDrag } from "./drag.js";
import { make } from "./dom.js";
import { randomSeed } from "./seed.js";
import { addCard, chooseTake, editPrompt, moveCard, removeCard, splitCard, splitPlace, spreadPrompt } from "./story.js";

/** Return the functions that buttons, keys and cards of a strip call. */
export function actsOf(strip) {
  const setting = (index, name, value) =>
    strip.change((story) => ({
      text: setOfWindow(story.text, { number: index + 1, name, value }),
      count: story.windows.length,
    }));
  const acts = {
    redraw: () => strip.draw(),
    choose: (index) => strip.choose(index),
    press: (index, event) => startDrag(strip, index, event),
    edit: (index, prompt) => strip.change((story) => editPrompt(story, index, prompt)),
    spread: () => strip.change((story) => spreadPrompt(story, strip.current)),
    add: () => toCard(strip, strip.current + 1, (story) => addCard(story, strip.current)),
    remove: () => toCard(strip, strip.current, (story) => removeCard(story, strip.current)),
    split: () => toCard(strip, strip.current + 1, (story) => splitCard(story, strip.current, placeToSplit(strip))),
    step: (by) => acts.move(strip.current, strip.current + by),
    move: (from, to) => {
      if (to !== from && to >= 0 && to < strip.cards.length) toCard(strip, to, (story) => moveCard(story, from, to));
    },
    setSeed: (index, seed) => setting(index, "seed", seed),
    lock: (index) => setting(index, "seed", strip.cards[index].locked ? null : strip.cards[index].seed),
    dice: (index) => setting(index, "seed", randomSeed()),
    setEnd: (index, name) => setting(index, "end", name),
    pickEnd: (index) => pickFile((file) => acts.uploadEnd(index, file)),
    uploadEnd: (index, file) => uploadEnd(strip, file, (name) => acts.setEnd(index, name)),
    keepLater: (limit) =>
      strip.change((story) => ({ text: setKeepLater(story.text, limit), count: story.windows.length })),
    redo: () => {
      acts.dice(strip.current);
      app.queuePrompt(0);
    },
    nextTake: (index) => {
      const { takes, used } = strip.states[index];
      const take = takes[(used + 1) % takes.length];
      strip.change((story) => chooseTake(story, index, take));
    },
    lose: (file) => {
      strip.results.lose(file);
      strip.draw();
    },
  };
  return acts;
}

/** Edit the story, then go to a card of the new one. */
function toCard(strip, index, edit) {
  strip.change(edit);
  strip.focus(index);
}

/** Return the position of the cursor in the prompt, or a good place to split if it is not inside. */
function placeToSplit(strip) {
  const { prompt } = strip.cards[strip.current];
  const area = strip.views.get(strip.current)?.prompt;
  const cursor = area?.value === prompt ? area.selectionStart : 0;
  return cursor > 0 && cursor < prompt.length ? cursor : splitPlace(prompt);
}

function pickFile(take) {
  const input = make("input", "", { type: "file", accept: "image/*" });
  input.addEventListener("change", () => input.files[0] && take(input.files[0]));
  input.click();
}

/** Put a picture into the input folder, as Load Image does, and pass its name on. */
async function uploadEnd(strip, file, take) {
  const body = new FormData();
  body.append("image", file);
  try {
    const reply = await api.fetchApi("/upload/image", { method: "POST", body });
    if (!reply.ok) throw new Error(`${reply.status} ${reply.statusText}`);
    const { name, subfolder } = await reply.json();
    take(subfolder ? `${subfolder}/${name}` : name);
  } catch (error) {
    app.extensionManager?.toast?.add?.({
      severity: "error",
      summary: strip.words.notUploaded,
      detail: String(error.message),
      life: 6000,
    });
  }
}

// Translate what the frontend does not translate for a pack: choices of widgets, progress, errors, and (in
// translated_graph.js) titles and notes. The texts are in locales/<language>/main.json under "magic141".

import { api } from "../../scripts/api.js";
import { patternsOf, translated } from "./sentences.js";

/** Return the texts of a language, or null if there are none or it is English. */
export async function loadTexts(locale) {
  const every = await (await api.fetchApi("/i18n")).json();
  const own = every[locale]?.magic141 ?? every[String(locale).split("-")[0]]?.magic141;
  if (!own || own === every.en?.magic141) return null;
  const notes = Object.entries(every.en.magic141.notes).map(([name, text]) => [text, own.notes[name]]);
  return { own, notes: Object.fromEntries(notes), patterns: patternsOf(own) };
}

/** Translate progress and errors from now on. */
export function translateEvents(texts) {
  const listen = (name, part) =>
    api.addEventListener(
      name,
      ({ detail }) => {
        if (typeof detail?.[part] === "string") detail[part] = translated(detail[part], texts);
      },
      { capture: true },
    );
  listen("progress_text", "text");
  listen("magic141.unfinished", "text");
  listen("execution_error", "exception_message");
  const queue = api.queuePrompt;
  api.queuePrompt = async function (...given) {
    try {
      return await queue.apply(this, given);
    } catch (error) {
      for (const node of Object.values(error.response?.node_errors ?? {}))
        for (const fault of node.errors ?? []) fault.details = translated(fault.details ?? "", texts);
      throw error;
    }
  };
}

/** Show the choices of a node's widgets in the language; their values do not change. */
export function translateChoices(node, texts) {
  for (const widget of node.widgets ?? [])
    if (Array.isArray(widget.options?.values))
      widget.options.getOptionLabel = (value) => texts.own.options[value] ?? String(value);
}

// Sentences of the server in another language: English ones with {0}, {1} for what differs are the patterns.

const HOLE = /\{\d\}/;

/** Return a sentence of the server in the language, or as it is. */
export function translated(text, { patterns }) {
  for (const { found, sentence } of patterns) {
    const match = found.exec(text);
    if (match) return text.replace(match[0], sentence.replace(/\{(\d)\}/g, (_, number) => match[Number(number) + 1]));
  }
  return text;
}

/** Make expressions of the sentences, in which {0}, {1} stand for what differs, in this order; the longest come first. */
export function patternsOf({ progress, errors }) {
  const sentences = [...Object.entries(errors), ...Object.entries(progress).map(([text, own]) => [text, own, "^"])];
  sentences.sort(([one], [other]) => other.length - one.length);
  return sentences.map(([english, sentence, start = ""]) => {
    const parts = english.split(HOLE).map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
    const end = english.endsWith("}") ? "$" : "";
    return { found: new RegExp(start + parts.join("([^]*?)") + end), sentence };
  });
}

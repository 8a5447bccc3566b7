// Translate sentences of the server. The patterns are English sentences with {0}, {1} for the parts that vary.

const HOLE = /\{\d\}/;

/** Return a sentence of the server in the language, or unchanged if no pattern fits. */
export function translated(text, { patterns }) {
  for (const { pattern, sentence } of patterns) {
    const match = pattern.exec(text);
    if (match) return text.replace(match[0], sentence.replace(/\{(\d)\}/g, (_, number) => match[Number(number) + 1]));
  }
  return text;
}

/** Make regular expressions of the sentences; the longest come first. {0}, {1} appear in this order in English. */
export function patternsOf({ progress, errors }) {
  const sentences = [...Object.entries(errors), ...Object.entries(progress).map(([text, translation]) => [text, translation, "^"])];
  sentences.sort(([one], [other]) => other.length - one.length);
  return sentences.map(([english, sentence, start = ""]) => {
    const parts = english.split(HOLE).map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
    const end = english.endsWith("}") ? "$" : "";
    return { pattern: new RegExp(start + parts.join("([^]*?)") + end), sentence };
  });
}

// Labels that distinguish the windows of a video: the number, and the part of the prompt that differs from the others.

/**
 * @param {string[]} prompts one per window.
 * @returns {string[]} one label per window.
 */
export function windowLabels(prompts) {
  const texts = [...new Set(prompts)].map(words);
  const start = shared(texts);
  const end = shared(texts.map((text) => text.slice(start).reverse()));
  return prompts.map((prompt, index) => {
    const text = words(prompt);
    const differs = texts.length > 1 ? text.slice(start, text.length - end).join(" ") : "";
    return differs ? `${index + 1} ${differs}` : String(index + 1);
  });
}

function words(prompt) {
  return prompt.split(/\s+/).filter(Boolean);
}

/** Return how many words all texts have in common at their beginning. */
function shared(texts) {
  const shortest = texts.length ? Math.min(...texts.map((text) => text.length)) : 0;
  let count = 0;
  while (count < shortest && texts.every((text) => text[count] === texts[0][count])) count += 1;
  return count;
}

// What tells the windows of a video apart: the number, and of the prompt the part in which the prompts differ.

/**
 * @param {string[]} prompts one a window.
 * @returns {string[]} one label a window.
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

/** Return with how many equal words all texts begin. */
function shared(texts) {
  const shortest = texts.length ? Math.min(...texts.map((text) => text.length)) : 0;
  let count = 0;
  while (count < shortest && texts.every((text) => text[count] === texts[0][count])) count += 1;
  return count;
}

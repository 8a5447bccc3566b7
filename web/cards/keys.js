// The cards by keyboard. Keys that act here do not reach the canvas.

const EDITORS = "textarea, input";

/** Take a key that was pressed inside a strip. */
export function onKey(strip, event) {
  if (event.isComposing) return;
  const isEditor = event.target.matches(EDITORS);
  const act = isEditor ? editorKey(strip, event) : event.target.matches("li") ? cardKey(strip, event) : null;
  if (act) {
    event.preventDefault();
    event.stopPropagation();
    act();
  } else if (!event.ctrlKey && !event.metaKey) event.stopPropagation(); // Ctrl+Enter runs, Ctrl+Z undoes, as everywhere
}

function cardKey(strip, { key, ctrlKey, metaKey }) {
  const { current, acts, cards } = strip;
  const withCtrl = ctrlKey || metaKey;
  const actOf = {
    ArrowLeft: () => (withCtrl ? acts.step(-1) : strip.focus(current - 1)),
    ArrowRight: () => (withCtrl ? acts.step(1) : strip.focus(current + 1)),
    Home: () => strip.focus(0),
    End: () => strip.focus(cards.length - 1),
    Insert: () => acts.add(),
    Delete: () => acts.remove(),
    Backspace: () => acts.remove(),
    Enter: withCtrl ? null : () => strip.views.get(current)?.prompt.focus(),
    F2: () => strip.views.get(current)?.prompt.focus(),
  };
  return Object.hasOwn(actOf, key) ? actOf[key] : null;
}

/** Leave an editor with Escape or Enter: a prompt is one line. */
function editorKey(strip, { key, target, ctrlKey, metaKey }) {
  const leaves = key === "Escape" || (key === "Enter" && !ctrlKey && !metaKey);
  if (!leaves || !target.closest("li")) return null;
  return () => {
    target.blur(); // this takes over a seed
    strip.focus(strip.current);
  };
}

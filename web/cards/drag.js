// Dragging a card to another place. Only transforms change while the pointer moves, so nothing is laid out anew.

import { PITCH } from "./style.js";

const THRESHOLD = 4; // pixels before a press becomes a drag
const EDGE = 40; // from here to the end of the strip it rolls
const ROLL = 12; // pixels a frame

/** Follow the pointer from a press on a card's picture. */
export function startDrag(strip, index, event) {
  if (event.button !== 0 || event.target.closest("button, input, textarea")) return;
  strip.choose(index);
  strip.views.get(index)?.root.focus({ preventScroll: true });
  if (!event.target.closest(".magic141-shot") || !strip.story.editable) return;
  const scale = strip.scroll.getBoundingClientRect().width / strip.scroll.offsetWidth || 1;
  const drag = {
    strip,
    index,
    scale,
    startX: event.clientX,
    startScroll: strip.scroll.scrollLeft,
    x: event.clientX,
    to: index,
    moving: false,
  };
  const options = { signal: (drag.over = new AbortController()).signal };
  event.target.setPointerCapture?.(event.pointerId);
  event.target.addEventListener("pointermove", (move) => follow(drag, move), options);
  event.target.addEventListener("pointerup", () => finish(drag, true), options);
  event.target.addEventListener("pointercancel", () => finish(drag, false), options);
  window.addEventListener("keydown", (key) => key.key === "Escape" && finish(drag, false), { ...options, capture: true });
}

function follow(drag, event) {
  drag.x = event.clientX;
  event.stopPropagation();
  if (!drag.moving && Math.abs(drag.x - drag.startX) < THRESHOLD) return;
  if (!drag.moving) begin(drag);
}

function begin(drag) {
  const { strip, index } = drag;
  drag.moving = true;
  strip.dragged = index;
  strip.root.classList.add("magic141-sliding");
  strip.views.get(index).root.classList.add("magic141-dragged");
  drag.box = strip.scroll.getBoundingClientRect();
  requestAnimationFrame(() => frame(drag));
}

/** Draw one frame of the drag. */
function frame(drag) {
  const { strip, index, scale, box } = drag;
  if (drag.over.signal.aborted) return;
  if (drag.x < box.left + EDGE * scale) strip.scroll.scrollLeft -= ROLL;
  else if (drag.x > box.right - EDGE * scale) strip.scroll.scrollLeft += ROLL;
  const moved = (drag.x - drag.startX) / scale + strip.scroll.scrollLeft - drag.startScroll;
  drag.to = Math.max(0, Math.min(strip.cards.length - 1, index + Math.round(moved / PITCH)));
  for (const [place, view] of strip.views) {
    const shift = place === index ? moved : shiftOf(place, index, drag.to);
    const transform = shift ? `translateX(${shift}px)` : "";
    if (view.root.style.transform !== transform) view.root.style.transform = transform;
  }
  requestAnimationFrame(() => frame(drag));
}

/** Return how far a card makes room for the one that is dragged. */
function shiftOf(place, from, to) {
  if (from < place && place <= to) return -PITCH;
  return to <= place && place < from ? PITCH : 0;
}

function finish(drag, drop) {
  const { strip, index, to, moving } = drag;
  drag.over.abort();
  strip.dragged = undefined;
  strip.root.classList.remove("magic141-sliding");
  for (const { root } of strip.views.values()) {
    root.style.transform = "";
    root.classList.remove("magic141-dragged");
  }
  if (moving && drop) strip.acts.move(index, to);
}

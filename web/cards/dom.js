// Elements of the cards. Text goes in as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";
const ICONS = {
  lock: "M4 7h8v6H4zM6 7V5a2 2 0 0 1 4 0v2",
  unlock: "M4 7h8v6H4zM6 7V5a2 2 0 0 1 3.8-.9",
  dice: "M2.5 2.5h11v11h-11zM5.5 5.5h.01M8 8h.01M10.5 10.5h.01",
  picture: "M2.5 3.5h11v9h-11zM2.5 11l3-3 2.5 2.5L10.5 8l3 3M6 6h.01",
  close: "M4.5 4.5l7 7M11.5 4.5l-7 7",
  add: "M8 3v10M3 8h10",
  split: "M8 2v12M6 8H2.5M4 6L2 8l2 2M10 8h3.5M12 6l2 2-2 2",
  remove: "M3.5 4.5h9M6.5 4.5V3h3v1.5M5 4.5l.5 8.5h5l.5-8.5",
  left: "M10 3.5L5.5 8l4.5 4.5",
  right: "M6 3.5L10.5 8 6 12.5",
  spread: "M2.5 8h8M8 5l3 3-3 3M13 3.5v9",
  redo: "M12.5 8A4.5 4.5 0 1 1 11 4.6M11 2v3H8",
};

/** Make an element; `more` holds properties, `on...` listeners, attributes with a dash and `role`. */
export function make(tag, className, more = {}, children = []) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  for (const [name, value] of Object.entries(more)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name.includes("-") || name === "role") made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children);
  return made;
}

/** Make a button that shows an icon, and words beside it where `text` is given. */
export function iconButton(icon, label, act, text = "") {
  const button = make("button", "magic141-button", { type: "button", onclick: act }, [iconOf(icon)]);
  if (text) button.append(make("span", "magic141-button-text", { textContent: text }));
  setLabel(button, label);
  return button;
}

export function setLabel(element, label) {
  if (element.title === label) return;
  element.title = label;
  element.setAttribute("aria-label", label);
}

export function setIcon(button, icon) {
  button.querySelector("path").setAttribute("d", ICONS[icon]);
}

function iconOf(icon) {
  const svg = svgOf("svg", { viewBox: "0 0 16 16", "aria-hidden": "true", class: "magic141-icon" });
  svg.append(svgOf("path", { d: ICONS[icon] }));
  return svg;
}

/** Make an element of a drawing. */
export function svgOf(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

/** Set a property of an element where it differs, so that nothing is laid out anew for it. */
export function set(element, name, value) {
  if (element[name] !== value) element[name] = value;
}

export function clock(seconds) {
  const tenths = Math.round(10 * seconds);
  const whole = Math.floor(tenths / 600);
  return `${whole}:${((tenths - 600 * whole) / 10).toFixed(1).padStart(4, "0").replace(/\.0$/, "")}`;
}

// How the cards look. The colors are those of the frontend's theme, light or dark.

export const HEIGHT = 208; // of the strip; it never changes, so nothing jumps while a run goes on
export const CARD_WIDTH = 176;
export const GAP = 6;
export const PITCH = CARD_WIDTH + GAP; // from one card to the next

// The frontend's shadow of a node is a filter: each frame in which a card moves or plays would blur the whole node again,
// which takes 50 ms where no GPU draws the page. A shadow of the box looks the same and is drawn once.
const SHADOW = `
.lg-node:has(.magic141-cards){filter:none;border-radius:12px;box-shadow:0 3px 6px #0002}
.dark-theme .lg-node:has(.magic141-cards){box-shadow:0 9px 14px #0006}
`;

const CSS = `
.magic141-cards{--m-text:var(--input-text,#ddd);--m-dim:var(--descrip-text,#999);--m-field:var(--comfy-input-bg,#222);
  --m-line:var(--border-color,#4e4e4e);--m-mark:#5b9dff;container-type:inline-size;display:flex;flex-direction:column;
  gap:4px;height:${HEIGHT - 8}px;min-height:${HEIGHT - 8}px;max-height:${HEIGHT - 8}px;box-sizing:border-box;font:11px/14px system-ui,sans-serif;color:var(--m-text);
  overflow:hidden;user-select:none;outline:none}
.magic141-cards *{box-sizing:border-box}
.magic141-cards [hidden]{display:none!important}
.magic141-story{display:flex;align-items:center;gap:8px;height:18px;flex:none}
.magic141-summary{flex:1;overflow:hidden;white-space:nowrap;text-overflow:ellipsis}
.magic141-drift{flex:none;width:72px;height:16px;overflow:visible}
.magic141-drift polyline{fill:none;stroke:var(--m-mark);stroke-width:1.5;vector-effect:non-scaling-stroke}
.magic141-drift line{stroke:var(--m-line);stroke-width:1;vector-effect:non-scaling-stroke}
.magic141-tools{display:flex;align-items:center;gap:2px;height:22px;padding-right:3px;flex:none;overflow:hidden}
.magic141-tools .magic141-space{flex:1}
.magic141-button{display:inline-flex;align-items:center;justify-content:center;gap:3px;min-width:22px;height:20px;padding:0 3px;
  border:1px solid transparent;border-radius:4px;background:none;color:inherit;font:inherit;cursor:pointer;flex:none}
.magic141-button:hover:not(:disabled){background:var(--m-line)}
.magic141-button:disabled{opacity:.35;cursor:default}
.magic141-button[aria-pressed=true]{color:var(--m-mark)}
.magic141-button-text{white-space:nowrap}
.magic141-redo{border-color:var(--m-line);padding:0 6px}
.magic141-keep{display:flex;align-items:center;gap:3px;flex:none;color:var(--m-dim)}
.magic141-keep input[type=checkbox]{margin:0;accent-color:var(--m-mark)}
.magic141-keep input[type=number]{width:42px;height:18px;padding:0 2px;border:1px solid var(--m-line);border-radius:3px;
  background:var(--m-field);color:inherit;font:inherit}
.magic141-icon{width:14px;height:14px;fill:none;stroke:currentColor;stroke-width:1.4;stroke-linecap:round;stroke-linejoin:round}
.magic141-scroll{position:relative;flex:1;min-height:0;overflow-x:auto;overflow-y:hidden;scrollbar-width:thin}
.magic141-list{position:relative;height:146px;margin:0;padding:0;list-style:none}
.magic141-card{position:absolute;top:1px;left:0;width:${CARD_WIDTH}px;height:144px;display:flex;flex-direction:column;
  border:1px solid var(--m-line);border-left:3px solid var(--seam,var(--m-line));border-radius:6px;overflow:hidden;
  background:var(--m-field);outline:none;contain:strict}
.magic141-card[data-state=failed]{border-color:#d8453a}
.magic141-card.magic141-current{border-color:var(--m-mark);border-left-color:var(--seam,var(--m-mark))}
.magic141-card:focus-visible{box-shadow:inset 0 0 0 2px var(--m-mark)}
.magic141-card.magic141-drop{box-shadow:inset 0 0 0 3px var(--m-mark)}
.magic141-card.magic141-dragged{z-index:2;border-color:var(--m-mark);cursor:grabbing}
.magic141-shot{position:relative;height:74px;flex:none;overflow:hidden;cursor:grab;background:var(--shot);touch-action:none}
.magic141-shot video,.magic141-shot img{position:absolute;inset:0;width:100%;height:100%;object-fit:contain;pointer-events:none}
.magic141-known{position:absolute;left:0;top:0;bottom:0;pointer-events:none;
  background:repeating-linear-gradient(45deg,#fff3 0 2px,#0000 2px 6px)}
.magic141-chip{position:absolute;max-width:calc(100% - 6px);padding:0 4px;border-radius:3px;background:#000a;color:#fff;
  font-size:10px;line-height:15px;white-space:nowrap;overflow:hidden;text-overflow:ellipsis;pointer-events:none}
.magic141-number{left:3px;top:3px;font-weight:600}
.magic141-state{right:3px;top:3px;max-width:110px}
.magic141-label{left:3px;bottom:3px;max-width:112px}
.magic141-time{right:3px;bottom:3px}
.magic141-take{position:absolute;right:3px;top:27px;height:18px;background:#000a;color:#fff;font-size:10px}
.magic141-card[data-state=done] .magic141-state{background:#1d7a43}
.magic141-card[data-state=running] .magic141-state{background:#1f62c8}
.magic141-card[data-state=stale] .magic141-state,.magic141-card[data-state=stopped] .magic141-state{background:#8a6410}
.magic141-card[data-state=failed] .magic141-state,.magic141-card[data-state=gone] .magic141-state{background:#a8281f}
.magic141-card[data-state=chosen] .magic141-state{background:#68409c}
.magic141-card[data-state=stale] .magic141-shot>video{filter:grayscale(.7) brightness(.75)}
.magic141-bar{position:absolute;left:0;bottom:0;height:3px;width:100%;transform-origin:0 50%;background:var(--m-mark);pointer-events:none}
.magic141-prompt{flex:1;min-height:0;width:100%;margin:0;padding:3px 5px;border:0;resize:none;background:none;color:inherit;
  font:inherit;line-height:14px;overflow-y:auto;scrollbar-width:none;outline:none;user-select:text}
.magic141-prompt:focus{background:#7772;box-shadow:inset 0 0 0 1px var(--m-mark)}
.magic141-foot{display:flex;align-items:center;height:24px;flex:none;padding:0 2px 2px;gap:1px}
.magic141-seed{flex:1;min-width:0;height:18px;padding:0 2px;border:0;border-radius:3px;background:none;color:var(--m-dim);
  font:10px/14px ui-monospace,monospace;text-overflow:ellipsis;outline:none;user-select:text}
.magic141-seed:focus,.magic141-seed:hover{background:#7772}
.magic141-locked .magic141-seed{color:inherit}
.magic141-end{position:relative;padding:0;overflow:hidden}
.magic141-end img{width:28px;height:18px;object-fit:cover;border-radius:3px;display:block}
.magic141-end:has(img) svg{display:none}
.magic141-seed[aria-invalid=true],.magic141-end[aria-invalid=true]{box-shadow:inset 0 0 0 1px #e43}
.magic141-unseen{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
@container (max-width:460px){.magic141-tools .magic141-button-text,.magic141-keep span{display:none}}
@media (prefers-reduced-motion:no-preference){.magic141-sliding .magic141-card:not(.magic141-dragged){transition:transform .12s}}
`;

/** Put the styles into the page, once. */
export function addStyle() {
  if (document.getElementById("magic141-cards-style")) return;
  const style = document.createElement("style");
  style.id = "magic141-cards-style";
  style.textContent = SHADOW + CSS;
  document.head.append(style);
}

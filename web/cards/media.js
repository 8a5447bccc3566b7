// The picture or looping video on a card, through the host's own view route, and only while the card is on the screen.

import { api } from "../../../scripts/api.js";
import { make } from "./dom.js";

const STILL = window.matchMedia?.("(prefers-reduced-motion: reduce)");

/** Return the address of a file of the host; a new `stamp` replaces an older file of the same name. */
export function viewUrl({ filename, subfolder = "", type = "output" }, stamp = 0) {
  return api.apiURL(`/view?${new URLSearchParams({ filename, subfolder, type, t: String(stamp) })}`);
}

/** The media of one card's shot. `lost(file)` is called when the server no longer has the file. */
export class Media {
  constructor(shot, lost) {
    Object.assign(this, { shot, lost, wanted: null, element: null, seen: false });
    this.watcher = new IntersectionObserver(([entry]) => this.turn(entry.isIntersecting));
    this.watcher.observe(shot);
  }

  /** Show a file: {file, stamp, isVideo}, or nothing. */
  show(wanted) {
    const url = wanted ? viewUrl(wanted.file, wanted.stamp) : null;
    if (url === (this.wanted?.url ?? null)) return;
    this.wanted = wanted ? { ...wanted, url } : null;
    this.drop();
    if (this.seen) this.load();
  }

  turn(seen) {
    this.seen = seen;
    if (seen && !this.element) this.load();
    if (this.element?.tagName !== "VIDEO") return;
    if (!seen) this.element.pause();
    else if (!STILL?.matches) this.element.play().catch(() => {}); // the browser may forbid it: then the picture stands still
  }

  load() {
    if (!this.wanted) return;
    const { file, url, isVideo } = this.wanted;
    const onerror = () => this.fail(file, url);
    this.element = isVideo
      ? make("video", "", {
          muted: true,
          loop: true,
          playsInline: true,
          autoplay: !STILL?.matches,
          preload: "auto",
          onerror,
        })
      : make("img", "", { alt: "", draggable: false, onerror });
    this.element.src = url;
    this.shot.prepend(this.element);
  }

  /** Report a file that is gone; one that this browser cannot play is only not shown. */
  async fail(file, url) {
    const isGone = await this.isGone(url);
    if (this.wanted?.url !== url) return;
    this.drop();
    if (isGone) this.lost(file);
  }

  /** Ask whether the file that is shown is still there. */
  async check() {
    const { file, url } = this.wanted ?? {};
    if (!this.element || !(await this.isGone(url)) || this.wanted?.url !== url) return;
    this.drop();
    this.lost(file);
  }

  async isGone(url) {
    const reply = await fetch(url, { method: "HEAD", cache: "no-store" }).catch(() => null);
    return reply?.status === 404;
  }

  drop() {
    if (this.element?.tagName === "VIDEO") {
      this.element.removeAttribute("src");
      this.element.load();
    }
    this.element?.remove();
    this.element = null;
  }

  end() {
    this.watcher.disconnect();
    this.drop();
  }
}

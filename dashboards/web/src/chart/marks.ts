/** What lies on and over a chart's sheet besides its lines: hatched gaps, late marks, live dots and the crosshair. */

import type { Stretch } from "../data/stretch";
import type { Sheet } from "./sheet";
import type { LiveEnd } from "./shown_series";
import { seriesClass } from "./theme_colours";

/** More lines than these, and their dots and value tags would hide each other. */
export const MAX_DOTS = 8;
/** Narrower than this nothing can be hatched. */
const MIN_GAP_PX = 3;
/** Gaps drawn at most; with more, a chart is zoomed out so far that they are narrower than a pixel. */
const MAX_GAPS = 200;

export class Marks {
  /** The gaps that are shown, in time. */
  gaps: Stretch[] = [];
  /** Set when what is drawn has changed; who draws clears it. */
  stale = true;
  private readonly gapLayer = layer("gaps");
  private readonly dotLayer = layer("dots");
  private readonly crosshair = layer("crosshair");
  private readonly label = document.createElement("span");
  private readonly viewport: HTMLElement;

  constructor(viewport: HTMLElement, sheet: HTMLElement) {
    this.viewport = viewport;
    sheet.prepend(this.gapLayer);
    sheet.append(this.dotLayer);
    this.label.className = "crosshair-time";
    this.crosshair.append(this.label);
    this.crosshair.hidden = true;
    viewport.append(this.crosshair);
  }

  close(): void {
    this.crosshair.remove();
  }

  show(sheet: Sheet, ends: LiveEnd[], shown: { gaps: Stretch[]; late: Stretch[]; live: boolean }): void {
    this.gaps = shown.gaps;
    const spans = [
      ...shown.gaps.slice(-MAX_GAPS).map((gap) => ({ ...gap, name: "gap" })),
      ...shown.late.map((late) => ({ ...late, name: "late" })),
    ];
    const boxes = spans.flatMap(({ from, to, name }) => {
      const end = sheet.plan?.width ?? 0;
      // A gap may go on far beyond what is drawn.
      const left = Math.max(0, sheet.position(from, 0)?.x ?? 0);
      const right = Math.min(end, sheet.position(to, 0)?.x ?? 0);
      const least = name === "gap" ? MIN_GAP_PX : 0;
      return right <= 0 || left >= end || right - left < least
        ? []
        : [{ left, width: Math.max(2, right - left), name }];
    });
    match(this.gapLayer, boxes.length);
    boxes.forEach(({ left, width, name }, index) => {
      const box = this.gapLayer.children[index] as HTMLElement;
      if (box.className !== name) {
        box.className = name;
        box.dataset.testid = name;
      }
      box.style.transform = `translateX(${left}px)`;
      box.style.width = `${width}px`;
    });
    const dots = shown.live && ends.length <= MAX_DOTS ? ends : [];
    match(this.dotLayer, dots.length);
    dots.forEach(({ colour, time, value }, index) => {
      const dot = this.dotLayer.children[index] as HTMLElement;
      const at = sheet.position(time, value);
      dot.className = `dot ${seriesClass(colour)}`;
      dot.hidden = at === null || Number.isNaN(value);
      if (at !== null) dot.style.transform = `translate(${at.x}px, ${at.y}px)`;
    });
  }

  /** The crosshair at this pixel; what is to be said of it stands on the chart under the pointer only. */
  point(x: number | null, text: string | null): void {
    this.crosshair.hidden = x === null;
    if (x === null) return;
    this.crosshair.style.transform = `translateX(${Math.round(x)}px)`;
    this.label.hidden = text === null;
    if (text === null) return;
    if (this.label.textContent !== text) this.label.textContent = text;
    this.label.classList.toggle("told", text.length > 20);
    this.label.classList.toggle("left", x > this.viewport.clientWidth / 2);
  }
}

function layer(name: string): HTMLElement {
  const element = document.createElement("div");
  element.className = name;
  return element;
}

/** Gives the layer this many children, keeping those it has. */
function match(parent: HTMLElement, count: number): void {
  while (parent.children.length > count) parent.lastElementChild?.remove();
  while (parent.children.length < count) parent.append(document.createElement("div"));
}

/** Overlays of a chart: hatched gaps, marks of late readings and restarts, live dots and the crosshair. */

import type { TimeRange } from "../data/time";
import { visible } from "../data/visible_text";
import type { LiveEnd } from "./chart_series";
import type { Restart } from "./intervals";
import type { PlotCanvas } from "./plot_canvas";
import { seriesColour } from "./theme_colours";

/** With more lines, dots and value tags would hide each other. */
const MAX_DOTS = 8;
/** Narrower gaps cannot be hatched. */
const MIN_GAP_PX = 3;
/** Maximum number of gaps; with more, each is narrower than a pixel. */
const MAX_GAPS = 200;

interface Shown {
  gaps: TimeRange[];
  late: TimeRange[];
  restarts: readonly Restart[];
  live: boolean;
}

export class Marks {
  /** The gaps that are shown. */
  gaps: TimeRange[] = [];
  /** Set when the drawing has changed; cleared by the chart view. */
  stale = true;
  private readonly gapLayer = layer("gaps");
  private readonly dotLayer = layer("dots");
  private readonly crosshair = layer("crosshair");
  private readonly label = document.createElement("span");
  private readonly viewport: HTMLElement;

  constructor(viewport: HTMLElement, canvas: HTMLElement) {
    this.viewport = viewport;
    canvas.prepend(this.gapLayer);
    canvas.append(this.dotLayer);
    this.label.className = "crosshair-time";
    this.crosshair.append(this.label);
    this.crosshair.hidden = true;
    viewport.append(this.crosshair);
  }

  close(): void {
    this.crosshair.remove();
  }

  show(canvas: PlotCanvas, ends: LiveEnd[], shown: Shown): void {
    this.gaps = shown.gaps;
    const spans = [
      ...shown.gaps.slice(-MAX_GAPS).map((gap) => ({ ...gap, name: "gap" })),
      ...shown.late.map((late) => ({ ...late, name: "late" })),
      ...shown.restarts.map(({ time }) => ({ from: time, to: time, name: "restart" })),
    ];
    const boxes = spans.flatMap(({ from, to, name }) => {
      const end = canvas.layout?.width ?? 0;
      // A gap may extend far beyond the canvas.
      const left = Math.max(0, canvas.position(from, 0)?.x ?? 0);
      const right = Math.min(end, canvas.position(to, 0)?.x ?? 0);
      const least = name === "gap" ? MIN_GAP_PX : 0;
      return right <= 0 || left >= end || right - left < least
        ? []
        : [{ left, width: Math.max(2, right - left), name }];
    });
    resizeLayer(this.gapLayer, boxes.length);
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
    resizeLayer(this.dotLayer, dots.length);
    dots.forEach(({ colour, time, value }, index) => {
      const dot = this.dotLayer.children[index] as HTMLElement;
      const at = canvas.position(time, value);
      dot.className = "dot";
      dot.style.color = seriesColour(colour);
      dot.hidden = at === null || Number.isNaN(value);
      if (at !== null) dot.style.transform = `translate(${at.x}px, ${at.y}px)`;
    });
  }

  /** Move the crosshair to this pixel. Only the chart under the pointer shows a text. */
  moveCrosshair(x: number | null, text: string | null): void {
    this.crosshair.hidden = x === null;
    if (x === null) return;
    this.crosshair.style.transform = `translateX(${Math.round(x)}px)`;
    this.label.hidden = text === null;
    if (text === null) return;
    setText(this.label, text);
    this.label.classList.toggle("explained", text.length > 20);
    this.label.classList.toggle("left", x > this.viewport.clientWidth / 2);
  }
}

function layer(name: string): HTMLElement {
  const element = document.createElement("div");
  element.className = name;
  return element;
}

/** Set the text of an element, if it is not the current one: the browser would compute the layout again. */
export function setText(element: HTMLElement, text: string): void {
  const shown = visible(text);
  if (element.textContent !== shown) element.textContent = shown;
}

/** Set the number of children of a layer and keep the existing ones. */
export function resizeLayer(parent: HTMLElement, count: number, tag = "div"): void {
  while (parent.children.length > count) parent.lastElementChild?.remove();
  while (parent.children.length < count) parent.append(document.createElement(tag));
}

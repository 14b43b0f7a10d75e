/** Labels of the time axis. They move with the canvas, and a label that would be cut at an edge is hidden as a whole. */

import type { PlotCanvas } from "./plot_canvas";

interface Label {
  element: HTMLElement;
  /** Position of its middle on the canvas, and half its width, in CSS pixels. */
  x: number;
  half: number;
}

export class TimeAxis {
  private readonly layer = document.createElement("div");
  private labels: Label[] = [];

  constructor(canvas: HTMLElement) {
    this.layer.className = "time-labels";
    canvas.append(this.layer);
  }

  /** Show the labels of a new drawing. */
  show(canvas: PlotCanvas): void {
    const elements = canvas.timeLabels.map(({ time, text }) => {
      const element = document.createElement("span");
      element.className = "time-label";
      element.textContent = text;
      return { element, x: canvas.position(time, 0)?.x ?? 0 };
    });
    this.layer.replaceChildren(...elements.map(({ element }) => element));
    this.labels = elements.map(({ element, x }) => ({ element, x, half: element.offsetWidth / 2 }));
    for (const { element, x } of this.labels) element.style.left = `${x}px`;
  }

  /** Hide the labels that are cut when the canvas is moved by `shift` pixels and scaled. `width` is the visible part. */
  move(shift: number, scale: number, width: number): void {
    for (const { element, x, half } of this.labels)
      element.classList.toggle("cut", !isWhole(x * scale + shift, half * scale, width));
  }
}

/** Return whether a label with this middle and half width is entirely visible. */
export function isWhole(middle: number, half: number, width: number): boolean {
  return middle - half >= 0 && middle + half <= width;
}

/** The vertical axis: the grid's numbers, and tags with the newest values of a few series. */

import { axisHeight, TOP_PADDING } from "../../chart/sheet";
import { rem } from "../../chart/theme_colours";
import { ticks, type YRange } from "../../chart/y_range";
import { decimalsOf, fixed, formatValue, type NumberFormat } from "../../data/number_format";

/** More tags than these would hide the axis. */
const MAX_TAGS = 4;
const TAG_REM = 1.125;

export interface LastValue {
  colour: number;
  value: number;
}

export class ValueAxis {
  private readonly host: HTMLElement;
  private readonly tickLayer = document.createElement("div");
  private readonly tagLayer = document.createElement("div");
  private range: YRange | null = null;
  private height = 0;

  constructor(host: HTMLElement) {
    this.host = host;
    host.append(this.tickLayer, this.tagLayer);
  }

  close(): void {
    this.host.replaceChildren();
  }

  resize(height: number): void {
    this.height = height;
  }

  showRange(range: YRange, format: NumberFormat): void {
    this.range = range;
    const decimals = decimalsOf(range.step * format.scale);
    const labels = ticks(range).map((tick) => ({
      y: this.y(tick),
      text: label(tick * format.scale, decimals),
    }));
    this.tickLayer.replaceChildren(
      ...labels.map(({ y, text }) => {
        const element = document.createElement("span");
        element.className = "tick";
        element.style.top = `${y}px`;
        element.dataset.y = String(y);
        element.textContent = text;
        return element;
      }),
    );
  }

  showLast(values: LastValue[], format: NumberFormat): void {
    const shown = values.length <= MAX_TAGS ? values : [];
    const tagHeight = TAG_REM * rem();
    const tops = apart(
      shown.map(({ value }) => this.y(value) - tagHeight / 2),
      tagHeight,
      this.height - axisHeight(),
    );
    while (this.tagLayer.children.length > shown.length) this.tagLayer.lastElementChild?.remove();
    while (this.tagLayer.children.length < shown.length) this.tagLayer.append(document.createElement("span"));
    for (const tick of this.tickLayer.children as HTMLCollectionOf<HTMLElement>) {
      const y = Number(tick.dataset.y);
      tick.classList.toggle(
        "covered",
        tops.some((top) => Math.abs(top + tagHeight / 2 - y) < tagHeight - 2),
      );
    }
    shown.forEach(({ colour, value }, index) => {
      const tag = this.tagLayer.children[index] as HTMLElement;
      tag.className = `last series-${(colour % 8) + 1}`;
      tag.style.top = `${tops[index]}px`;
      const text = formatValue(value, format);
      if (tag.textContent !== text) tag.textContent = text;
    });
  }

  private y(value: number): number {
    if (this.range === null) return 0;
    const usable = this.height - axisHeight() - TOP_PADDING;
    return TOP_PADDING + usable * (1 - (value - this.range.min) / (this.range.max - this.range.min));
  }
}

/** Large axis numbers are shortened: 1,250,000 does not fit beside a chart. */
function label(value: number, decimals: number): string {
  const size = Math.abs(value);
  if (size > 0 && size < 1e-4) return value.toExponential(1).replace("-", "−").replace("e-", "e−");
  if (size >= 1e15) return value.toExponential(1).replace("e+", "e");
  for (const [power, letter] of [
    [1e12, "T"],
    [1e9, "G"],
    [1e6, "M"],
    [1e5, "k"],
  ] as const) {
    const divisor = letter === "k" ? 1e3 : power;
    if (size >= power) return `${fixed(value / divisor, Math.min(3, decimalsOf(value / divisor)))} ${letter}`;
  }
  return fixed(value, decimals);
}

/** Moves positions apart so that none overlaps another, as little as needed; in the order that they were given. */
export function apart(tops: number[], size: number, height: number): number[] {
  const order = tops.map((_, index) => index).sort((a, b) => tops[a] - tops[b]);
  const moved = [...tops];
  let floor = 0;
  for (const index of order) {
    moved[index] = Math.max(moved[index], floor);
    floor = moved[index] + size;
  }
  let ceiling = height - size;
  for (const index of [...order].reverse()) {
    moved[index] = Math.min(moved[index], ceiling);
    ceiling = moved[index] - size;
  }
  return moved;
}

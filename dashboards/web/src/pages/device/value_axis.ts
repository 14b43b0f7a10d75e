/** Value axis of a chart: grid labels, and tags with the newest values of a few series. */

import { ticks, type YRange } from "../../chart/axes";
import type { Readout } from "../../chart/chart_view";
import { resizeLayer } from "../../chart/marks";
import { axisHeight, TOP_PADDING } from "../../chart/plot_canvas";
import { rem, seriesColour } from "../../chart/theme_colours";
import { decimalsOf, fixed, formatValue, type NumberFormat } from "../../data/number_format";

/** More tags would hide the axis. */
const MAX_TAGS = 4;
const TAG_REM = 1.125;
/** A tag is bolder than a grid label of the same length, and has a frame. */
const TAG_BOLDNESS = 1.08;
const TAG_FRAME_REM = 1;

export class ValueAxis {
  private readonly host: HTMLElement;
  private readonly tickLayer = document.createElement("div");
  private readonly tagLayer = document.createElement("div");
  private range: YRange | null = null;
  private height = 0;
  private width = 0;
  /** Characters of the longest label that fits beside the chart. */
  private fitting = FITTING;

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
    const step = range.step * format.scale;
    const labels = ticks(range).map((tick) => ({
      y: this.y(tick),
      text: axisLabel(tick * format.scale, step),
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
    this.widenFor(labels.map(({ text }) => text.length));
  }

  /** Make the axis wide enough for its labels. It never becomes narrower, so that the chart does not jump. */
  private widenFor(lengths: number[]): void {
    this.fitting = Math.max(this.fitting, ...lengths);
    const longest = Math.max(0, ...[...this.tickLayer.children].map((label) => label.getBoundingClientRect().width));
    const width = Math.ceil(longest * TAG_BOLDNESS + TAG_FRAME_REM * rem());
    if (width <= Math.max(this.width, this.host.clientWidth)) return;
    this.width = width;
    this.host.parentElement?.style.setProperty("--axis-width", `${width}px`);
  }

  showLast(values: Readout["last"], format: NumberFormat): void {
    const shown = values.length <= MAX_TAGS ? values : [];
    const tagHeight = TAG_REM * rem();
    const tops = spreadApart(
      shown.map(({ value }) => this.y(value) - tagHeight / 2),
      tagHeight,
      this.height - axisHeight(),
    );
    resizeLayer(this.tagLayer, shown.length, "span");
    for (const tick of this.tickLayer.children as HTMLCollectionOf<HTMLElement>) {
      const y = Number(tick.dataset.y);
      tick.classList.toggle(
        "covered",
        tops.some((top) => Math.abs(top + tagHeight / 2 - y) < tagHeight - 2),
      );
    }
    shown.forEach(({ colour, value }, index) => {
      const tag = this.tagLayer.children[index] as HTMLElement;
      tag.className = "last";
      tag.style.color = seriesColour(colour);
      tag.style.top = `${tops[index]}px`;
      const whole = formatValue(value, format);
      const step = (this.range?.step ?? 1) * format.scale;
      const text = whole.length <= this.fitting ? whole : axisLabel(value * format.scale, step, 1, this.fitting);
      if (tag.textContent !== text) {
        const written = document.createElement("span");
        written.textContent = text;
        tag.replaceChildren(written);
      }
    });
  }

  private y(value: number): number {
    if (this.range === null) return 0;
    const usable = this.height - axisHeight() - TOP_PADDING;
    return TOP_PADDING + usable * (1 - (value - this.range.min) / (this.range.max - this.range.min));
  }
}

const SHORTENED = [
  [1e12, 1e12, " T"],
  [1e9, 1e9, " G"],
  [1e6, 1e6, " M"],
  [1e5, 1e3, " k"],
] as const;
/** Characters that fit beside a chart with the usual width. */
const FITTING = 8;

/**
 * Return a number for the axis, whose values are `step` apart. Large and tiny numbers are shortened. With `extra`
 * decimals the label has at most `fitting` characters, if it can.
 */
export function axisLabel(value: number, step: number, extra = 0, fitting = FITTING): string {
  const size = Math.abs(value);
  if (size >= 1e15 || (size > 0 && size < 1e-4)) {
    const decimals = Math.min(3, Math.max(1, decimalsOf(step / 10 ** Math.floor(Math.log10(size)))));
    return value.toExponential(decimals).replace("e+", "e").replaceAll("-", "−");
  }
  const [, divisor, letter] = SHORTENED.find(([from]) => size >= from) ?? [0, 1, ""];
  const decimals = Math.min(5, decimalsOf(step / divisor));
  const fine = `${fixed(value / divisor, decimals + extra)}${letter}`;
  return fine.length <= fitting || extra === 0 ? fine : axisLabel(value, step, extra - 1, fitting);
}

/** Move positions so that none overlap, as little as possible and in the given order. */
export function spreadApart(tops: number[], size: number, height: number): number[] {
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

/** The names and values of a chart's series. Values change many times a second: they are written without any framework. */

import { seriesClass } from "../../chart/theme_colours";
import { formatValue, type NumberFormat } from "../../data/number_format";

export interface LegendSeries {
  metric: string;
  label: string;
  colour: number;
}

const LONG_NAME = 10;
/** In a longer list, only the numbers that can be seen are written. */
const ALL_WRITTEN = 16;

export type LegendOrder = "name" | "value";

export class Legend {
  private readonly host: HTMLElement;
  private readonly series: LegendSeries[];
  private readonly items: HTMLButtonElement[];
  private readonly cells: Text[];
  private readonly shownTexts: string[];
  private chosen = new Set<string>();
  private order: LegendOrder = "name";
  private values: (number | null)[] = [];
  private format: NumberFormat | null = null;
  /** Which items can be seen; all of them when null. */
  private seen: Set<number> | null = null;
  private sight: IntersectionObserver | null = null;
  private readonly onIsolate: (metrics: ReadonlySet<string> | null) => void;

  constructor(
    host: HTMLElement,
    series: LegendSeries[],
    onIsolate: (metrics: ReadonlySet<string> | null) => void,
  ) {
    this.host = host;
    this.series = series;
    this.onIsolate = onIsolate;
    this.cells = series.map(() => document.createTextNode("–"));
    this.shownTexts = series.map(() => "–");
    this.items = series.map((one, index) => this.makeItem(one, index));
    host.append(...this.items);
    if (this.items.length > ALL_WRITTEN) {
      this.seen = new Set();
      this.sight = new IntersectionObserver((entries) => this.see(entries), { root: host });
      for (const item of this.items) this.sight.observe(item);
    }
  }

  private see(entries: IntersectionObserverEntry[]): void {
    for (const { target, isIntersecting } of entries) {
      const index = this.items.indexOf(target as HTMLButtonElement);
      if (!isIntersecting) this.seen?.delete(index);
      else {
        this.seen?.add(index);
        this.write(index);
      }
    }
  }

  close(): void {
    this.sight?.disconnect();
    this.host.replaceChildren();
  }

  show(values: (number | null)[], format: NumberFormat): void {
    this.values = values;
    this.format = format;
    if (this.seen === null) for (let index = 0; index < values.length; index++) this.write(index);
    else for (const index of this.seen) this.write(index);
  }

  private write(index: number): void {
    if (this.format === null) return;
    const text = formatValue(this.values[index], this.format);
    if (text === this.shownTexts[index]) return;
    this.shownTexts[index] = text;
    this.cells[index].data = text;
  }

  /** By name, or by value with the largest first, as the values are at this moment. */
  sort(order: LegendOrder): void {
    this.order = order;
    const positions = this.series.map((_, index) => index);
    if (this.order === "value")
      positions.sort((a, b) => (this.values[b] ?? -Infinity) - (this.values[a] ?? -Infinity) || a - b);
    this.host.replaceChildren(...positions.map((index) => this.items[index]));
  }

  private makeItem({ metric, label, colour }: LegendSeries, index: number): HTMLButtonElement {
    const item = document.createElement("button");
    item.type = "button";
    item.className = "legend-item";
    item.title = `${metric}: click to see it alone, with Ctrl to add it`;
    item.dataset.metric = metric;
    const swatch = document.createElement("span");
    swatch.className = `swatch ${seriesClass(colour)}`;
    const name = document.createElement("span");
    // Each clipped box is a layer to the browser: only names that need it are clipped.
    if (label.length > LONG_NAME) name.className = "ellipsis";
    name.textContent = label;
    const value = document.createElement("span");
    value.className = "number";
    value.append(this.cells[index]);
    item.append(swatch, name, value);
    item.addEventListener("click", (event) =>
      this.choose(metric, event.ctrlKey || event.metaKey || event.shiftKey),
    );
    return item;
  }

  private choose(metric: string, more: boolean): void {
    const alone = this.chosen.size === 1 && this.chosen.has(metric);
    if (alone) this.chosen.clear();
    else if (more) {
      if (!this.chosen.delete(metric)) this.chosen.add(metric);
    } else this.chosen = new Set([metric]);
    this.series.forEach(({ metric: other }, index) => {
      const shown = this.chosen.size === 0 || this.chosen.has(other);
      this.items[index].classList.toggle("off", !shown);
      this.items[index].setAttribute("aria-pressed", String(this.chosen.has(other)));
    });
    this.onIsolate(this.chosen.size === 0 ? null : new Set(this.chosen));
  }
}

/** Legend of a chart. Its values change many times per second, so they are written to the DOM directly. */

import { setText } from "../../chart/marks";
import { seriesColour } from "../../chart/theme_colours";
import { formatValue, type NumberFormat } from "../../data/number_format";
import { visible } from "../../data/visible_text";

interface LegendSeries {
  metric: string;
  label: string;
  colour: number;
}

const LONG_NAME = 10;
/** In longer lists only visible values are written. */
const ALL_WRITTEN = 16;

export type LegendOrder = "name" | "value";

export class Legend {
  private readonly host: HTMLElement;
  private readonly series: LegendSeries[];
  private readonly items: HTMLButtonElement[];
  private readonly cells: Text[];
  private selected = new Set<string>();
  private values: (number | null)[] = [];
  private format: NumberFormat | null = null;
  /** Indexes of the items whose values are written. */
  private readonly visible: Set<number>;
  private observer: IntersectionObserver | null = null;
  private readonly onIsolate: (metrics: ReadonlySet<string> | null) => void;

  constructor(host: HTMLElement, series: LegendSeries[], onIsolate: (metrics: ReadonlySet<string> | null) => void) {
    this.host = host;
    this.series = series;
    this.onIsolate = onIsolate;
    this.cells = series.map(() => document.createTextNode("–"));
    this.items = series.map((entry, index) => this.makeItem(entry, index));
    host.append(...this.items);
    this.visible = new Set(this.items.length > ALL_WRITTEN ? [] : this.items.keys());
    if (this.items.length > ALL_WRITTEN) {
      this.observer = new IntersectionObserver((entries) => this.updateVisibility(entries), { root: host });
      for (const item of this.items) this.observer.observe(item);
    }
  }

  private updateVisibility(entries: IntersectionObserverEntry[]): void {
    for (const { target, isIntersecting } of entries) {
      const index = this.items.indexOf(target as HTMLButtonElement);
      if (!isIntersecting) this.visible.delete(index);
      else {
        this.visible.add(index);
        this.write(index);
      }
    }
  }

  close(): void {
    this.observer?.disconnect();
    this.host.replaceChildren();
  }

  show(values: (number | null)[], format: NumberFormat): void {
    this.values = values;
    this.format = format;
    for (const index of this.visible) this.write(index);
  }

  private write(index: number): void {
    if (this.format === null) return;
    const text = formatValue(this.values[index], this.format);
    if (text !== this.cells[index].data) this.cells[index].data = text;
  }

  /** Show the values of these metrics in grey. */
  markStale(metrics: ReadonlySet<string>): void {
    this.series.forEach(({ metric }, index) => {
      this.items[index].classList.toggle("stale", metrics.has(metric));
    });
  }

  /** Sort by name, or by the current value, largest first. */
  sort(order: LegendOrder): void {
    const positions = this.series.map((_, index) => index);
    if (order === "value")
      positions.sort((a, b) => (this.values[b] ?? -Infinity) - (this.values[a] ?? -Infinity) || a - b);
    this.host.replaceChildren(...positions.map((index) => this.items[index]));
  }

  private makeItem({ metric, label, colour }: LegendSeries, index: number): HTMLButtonElement {
    const item = document.createElement("button");
    item.type = "button";
    item.className = "legend-item";
    item.title = `${visible(metric)}: click to show it alone, with Ctrl to add it`;
    item.dataset.metric = metric;
    const swatch = document.createElement("span");
    swatch.className = "swatch";
    swatch.style.color = seriesColour(colour);
    const name = document.createElement("span");
    // Each clipped box is a layer in the browser: only long names are clipped.
    if (label.length > LONG_NAME) name.className = "ellipsis";
    setText(name, label);
    const value = document.createElement("span");
    value.className = "number";
    value.append(this.cells[index]);
    item.append(swatch, name, value);
    item.addEventListener("click", (event) => this.select(metric, event.ctrlKey || event.metaKey || event.shiftKey));
    return item;
  }

  private select(metric: string, more: boolean): void {
    const alone = this.selected.size === 1 && this.selected.has(metric);
    if (alone) this.selected.clear();
    else if (more) {
      if (!this.selected.delete(metric)) this.selected.add(metric);
    } else this.selected = new Set([metric]);
    this.series.forEach(({ metric: other }, index) => {
      const shown = this.selected.size === 0 || this.selected.has(other);
      this.items[index].classList.toggle("off", !shown);
      this.items[index].setAttribute("aria-pressed", String(this.selected.has(other)));
    });
    this.onIsolate(this.selected.size === 0 ? null : new Set(this.selected));
  }
}

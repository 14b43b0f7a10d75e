/** The series of one chart: what is held of each, which of them are shown, and what can be told of those. */

import type { WindowSeries } from "../data/history_window";
import { lowerBound, type SeriesBuffer, upperBound } from "../data/series_buffer";
import type { Stretch } from "../data/stretch";
import { nearest } from "./compose";
import { extent } from "./envelope";
import { commonGaps, findGaps } from "./gaps";
import { type Change, type HeldSeries, look } from "./held_series";

/** A reading this many pixels from the pointer is still under it … */
const NEAR_PX = 8;
/** … and one of a slow series as far as its readings are apart, but not further than … */
const MAX_NEAR_MS = 60_000;

export interface ChartSeries {
  metric: string;
  colour: number;
}

/** The newest reading of a series. */
export interface LiveEnd {
  colour: number;
  time: number;
  value: number;
}

export class ShownSeries {
  readonly all: readonly ChartSeries[];
  /** What is held of each, in the same order. */
  readonly held: (HeldSeries | null)[];
  /** Which are shown; all when null. */
  private isolated: ReadonlySet<string> | null = null;

  constructor(all: readonly ChartSeries[]) {
    this.all = all;
    this.held = all.map(() => null);
  }

  isolate(metrics: ReadonlySet<string> | null): void {
    this.isolated = metrics;
  }

  isShown(index: number): boolean {
    return this.isolated === null || this.isolated.has(this.all[index].metric);
  }

  /** Nothing of it is valid any more: another feed follows. */
  forget(): void {
    this.held.fill(null);
  }

  /** Looks at a series again; `shownTo` is the end of what is drawn. */
  look(
    index: number,
    feed: { bufferOf(metric: string): SeriesBuffer },
    window: { series: ReadonlyMap<string, WindowSeries> },
    shownTo: number,
  ): { held: HeldSeries; change: Change } {
    const { metric } = this.all[index];
    const seen = look(this.held[index], feed.bufferOf(metric), window.series.get(metric), shownTo);
    this.held[index] = seen.held;
    return seen;
  }

  /** The smallest and the largest value that is shown of the stretch, null when there is none. */
  extent(stretch: Stretch): [number, number] | null {
    let low = Number.POSITIVE_INFINITY;
    let high = Number.NEGATIVE_INFINITY;
    for (const { times, values } of this.shown()) {
      const seen = extent(values.subarray(lowerBound(times, stretch.from), upperBound(times, stretch.to)));
      if (seen === null) continue;
      low = Math.min(low, seen[0]);
      high = Math.max(high, seen[1]);
    }
    return low <= high ? [low, high] : null;
  }

  /** The newest readings of what is shown. */
  ends(): LiveEnd[] {
    return [...this.shown()].map(({ colour, times, values }) => ({
      colour,
      time: times[times.length - 1],
      value: values[values.length - 1],
    }));
  }

  /** Where all that is shown has a gap; silence up to now is one that goes on. */
  gaps(stretch: Stretch, now: number): Stretch[] {
    const lists = [...this.shown()].map(({ times, threshold }) => {
      const first = Math.max(0, lowerBound(times, stretch.from) - 1);
      const gaps = findGaps(times.subarray(first, upperBound(times, stretch.to) + 1), threshold);
      const last = times[times.length - 1];
      if (now - last > threshold) gaps.push({ from: last, to: Math.max(stretch.to, now) });
      return gaps;
    });
    return commonGaps(lists);
  }

  /** The last value of every series up to `time`, null where there is none. */
  valuesUpTo(time: number): (number | null)[] {
    return this.valuesAt((times) => upperBound(times, time) - 1);
  }

  /** The value of every series nearest to `time`, null where none is near it. */
  valuesNear(time: number, msPerPx: number): (number | null)[] {
    return this.valuesAt((times, threshold) =>
      nearest(times, time, Math.max(NEAR_PX * msPerPx, Math.min(threshold, MAX_NEAR_MS))),
    );
  }

  private valuesAt(position: (times: Float64Array, threshold: number) => number): (number | null)[] {
    return this.held.map((held) => {
      if (held === null) return null;
      const { times, values } = held.columns;
      const index = position(times, held.threshold);
      return index < 0 || Number.isNaN(values[index]) ? null : values[index];
    });
  }

  /** What is shown and has readings. */
  private *shown(): Generator<{
    colour: number;
    times: Float64Array;
    values: Float64Array;
    threshold: number;
  }> {
    for (const [index, held] of this.held.entries()) {
      if (held === null || !this.isShown(index) || held.columns.times.length === 0) continue;
      yield { colour: this.all[index].colour, ...held.columns, threshold: held.threshold };
    }
  }
}

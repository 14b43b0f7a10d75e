/** Series of a chart: merges the readings of the feed and the history window, and tracks what has been drawn. */

import type { WindowSeries } from "../data/history_window";
import { type Columns, lowerBound, type SeriesBuffer, slice, splice, upperBound } from "../data/series_buffer";
import type { TimeRange } from "../data/time";
import { commonGaps, findGaps, gapThreshold, silenceStart } from "./intervals";
import { extent } from "./line_path";

/** Return the readings from `from` to `to`, and one more on each side so that lines reach the edges. */
export function sliceColumns(columns: Columns, from: number, to: number): Columns {
  return slice(columns, Math.max(0, lowerBound(columns.times, from) - 1), upperBound(columns.times, to) + 1);
}

/** Return the readings of the feed, replaced by those of the window within its range. */
export function mergeColumns(recent: Columns, window: WindowSeries | undefined): Columns {
  if (window === undefined) return recent;
  // Readings after the last one of the window are newer than the hub's answer.
  const lastOfWindow = window.times.at(-1) ?? window.from;
  return splice(recent, lowerBound(recent.times, window.from), upperBound(recent.times, lastOfWindow), window);
}

/** Convert the texts of a window to the numbers that the feed uses: each answer of the hub numbers its texts from 0. */
export function recodeTexts(buffer: SeriesBuffer, window: WindowSeries): WindowSeries {
  if (window.texts === null) return window;
  const codes = window.texts.map((text) => buffer.codeOf(text));
  return { ...window, values: window.values.map((code) => codes[code] ?? Number.NaN) };
}

/** Return the position of the reading nearest to `time`; -1 if none is within `within`. */
function nearestIndex(times: ArrayLike<number>, time: number, within: number): number {
  const after = lowerBound(times, time);
  const before = after - 1;
  let best = -1;
  let distance = within;
  if (before >= 0 && time - times[before] <= distance) {
    best = before;
    distance = time - times[before];
  }
  if (after < times.length && times[after] - time < distance) best = after;
  return best;
}

/** Readings of one series and how far they have been drawn. */
export interface SeriesState {
  columns: Columns;
  lastTime: number;
  threshold: number;
  /** The line has been drawn up to this time. */
  drawnTo: number;
  readonly buffer: SeriesBuffer;
  readonly revision: number;
  readonly window: WindowSeries | undefined;
  /** Number of readings from which the threshold was computed. */
  readonly thresholdCount: number;
}

/** Change of a series since the last update. */
export type Change = "none" | "appended" | "replaced";

/** The threshold is computed again after the number of readings has grown by this factor. */
const RECOMPUTE_FACTOR = 1.25;

/** Update the state of a series. Readings after `shownTo`, the end of the drawing, do not change a view of the past. */
export function updateSeries(
  before: SeriesState | null,
  buffer: SeriesBuffer,
  window: WindowSeries | undefined,
  shownTo: number,
): { state: SeriesState; change: Change } {
  const same =
    before !== null && before.buffer === buffer && before.revision === buffer.revision && before.window === window;
  if (same && window !== undefined && before.lastTime > shownTo) return { state: before, change: "none" };
  if (same && before.lastTime === buffer.lastTime && before.columns.times.length === buffer.length)
    return { state: before, change: "none" };
  const columns = window === undefined ? buffer : mergeColumns(buffer, window);
  const { times, values } = columns;
  const recompute = !same || buffer.length > before.thresholdCount * RECOMPUTE_FACTOR;
  const state: SeriesState = {
    columns: { times, values },
    lastTime: buffer.lastTime,
    threshold: recompute ? gapThreshold(times) : before.threshold,
    drawnTo: same ? before.drawnTo : Number.NEGATIVE_INFINITY,
    buffer,
    revision: buffer.revision,
    window,
    thresholdCount: recompute ? buffer.length : before.thresholdCount,
  };
  return { state, change: same && window === undefined ? "appended" : "replaced" };
}

/** A reading within this many pixels is under the pointer. */
const NEAR_PX = 8;
/** For slow series the distance grows with the interval of the readings, up to this limit. */
const MAX_NEAR_MS = 60_000;

export interface ChartSeries {
  metric: string;
  colour: number;
}

/** Newest reading of a series. */
export interface LiveEnd {
  colour: number;
  time: number;
  value: number;
}

export class ChartSeriesSet {
  readonly all: readonly ChartSeries[];
  /** State of each series, in the same order. */
  readonly states: (SeriesState | null)[];
  /** Metrics to show; null: all. */
  private isolated: ReadonlySet<string> | null = null;

  constructor(all: readonly ChartSeries[]) {
    this.all = all;
    this.states = all.map(() => null);
  }

  isolate(metrics: ReadonlySet<string> | null): void {
    this.isolated = metrics;
  }

  isShown(index: number): boolean {
    return this.isolated === null || this.isolated.has(this.all[index].metric);
  }

  /** Discard all states: the feed has been replaced. */
  reset(): void {
    this.states.fill(null);
  }

  /** Update the state of one series; `shownTo` is the end of the drawing. */
  update(
    index: number,
    feed: { bufferOf(metric: string): SeriesBuffer },
    window: { series: ReadonlyMap<string, WindowSeries> },
    shownTo: number,
  ): { state: SeriesState; change: Change } {
    const { metric } = this.all[index];
    const result = updateSeries(this.states[index], feed.bufferOf(metric), window.series.get(metric), shownTo);
    this.states[index] = result.state;
    return result;
  }

  /** Return the smallest and largest shown value in the range; null if there is none. */
  extent(timeRange: TimeRange): [number, number] | null {
    let low = Number.POSITIVE_INFINITY;
    let high = Number.NEGATIVE_INFINITY;
    for (const { columns } of this.shown()) {
      const { times, values } = columns;
      const found = extent(values.subarray(lowerBound(times, timeRange.from), upperBound(times, timeRange.to)));
      if (found === null) continue;
      low = Math.min(low, found[0]);
      high = Math.max(high, found[1]);
    }
    return low <= high ? [low, high] : null;
  }

  /** Return the newest readings of the shown series. */
  ends(): LiveEnd[] {
    return [...this.shown()].map(({ colour, columns: { times, values } }) => ({
      colour,
      time: times[times.length - 1],
      value: values[values.length - 1],
    }));
  }

  /**
   * Return the gaps common to all shown series. Silence until now is an open gap. `offlineSince` is when the device
   * went offline.
   */
  gaps(timeRange: TimeRange, now: number, offlineSince: number | null = null): TimeRange[] {
    const lists = [...this.shown()].map(({ columns, threshold }) => {
      const gaps = findGaps(sliceColumns(columns, timeRange.from, timeRange.to).times, threshold);
      const last = columns.times[columns.times.length - 1];
      const silent = silenceStart(last, { now, threshold, offlineSince });
      if (silent !== null) gaps.push({ from: silent, to: Math.max(timeRange.to, now) });
      return gaps;
    });
    return commonGaps(lists);
  }

  /** Return the last value of every series up to `time`; null if there is none. */
  valuesUpTo(time: number): (number | null)[] {
    return this.valuesAt((times) => upperBound(times, time) - 1);
  }

  /** Return the value of every series nearest to `time`; null if none is near. */
  valuesNear(time: number, msPerPx: number): (number | null)[] {
    return this.valuesAt((times, threshold) =>
      nearestIndex(times, time, Math.max(NEAR_PX * msPerPx, Math.min(threshold, MAX_NEAR_MS))),
    );
  }

  private valuesAt(position: (times: Float64Array, threshold: number) => number): (number | null)[] {
    return this.states.map((state) => {
      if (state === null) return null;
      const { times, values } = state.columns;
      const index = position(times, state.threshold);
      return index < 0 || Number.isNaN(values[index]) ? null : values[index];
    });
  }

  /** Iterate over the shown series with readings. */
  private *shown(): Generator<SeriesState & { colour: number }> {
    for (const [index, state] of this.states.entries())
      if (state !== null && this.isShown(index) && state.columns.times.length > 0)
        yield { colour: this.all[index].colour, ...state };
  }
}

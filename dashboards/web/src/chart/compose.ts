/** Brings together what a chart has to draw: the feed's readings and, for the past, the hub's answer. */

import type { WindowSeries } from "../data/history_window";
import { type Columns, lowerBound, type SeriesBuffer, upperBound } from "../data/series_buffer";

/** The readings from `from` to `to`, and the next one beyond each side so that lines reach the edges. */
export function between(columns: Columns, from: number, to: number): Columns {
  const first = Math.max(0, lowerBound(columns.times, from) - 1);
  const end = Math.min(columns.times.length, upperBound(columns.times, to) + 1);
  return { times: columns.times.subarray(first, end), values: columns.values.subarray(first, end) };
}

/** The readings of the feed, with those of the window in the place of all that lies within it. */
export function compose(recent: Columns, window: WindowSeries | undefined): Columns {
  if (window === undefined) return recent;
  const before = lowerBound(recent.times, window.from);
  // What came after the hub answered is newer than the window's last reading.
  const lastOfWindow = window.times.length > 0 ? window.times[window.times.length - 1] : window.from;
  const after = upperBound(recent.times, lastOfWindow);
  const tail = recent.times.length - after;
  const times = new Float64Array(before + window.times.length + tail);
  const values = new Float64Array(times.length);
  times.set(recent.times.subarray(0, before));
  values.set(recent.values.subarray(0, before));
  times.set(window.times, before);
  values.set(window.values, before);
  times.set(recent.times.subarray(after), before + window.times.length);
  values.set(recent.values.subarray(after), before + window.times.length);
  return { times, values };
}

/** The window of a text metric with the numbers that the feed has for its texts: each answer of the hub numbers them anew. */
export function inCodesOf(buffer: SeriesBuffer, window: WindowSeries | undefined): WindowSeries | undefined {
  if (window === undefined || window.texts === null) return window;
  const codes = window.texts.map((text) => buffer.codeOf(text));
  return { ...window, values: window.values.map((code) => codes[code] ?? Number.NaN) };
}

/** The position of the reading nearest to `time`, -1 when none is within `within`. */
export function nearest(times: ArrayLike<number>, time: number, within: number): number {
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

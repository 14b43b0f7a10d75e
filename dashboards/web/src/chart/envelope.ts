/** Reduces a series that has more readings than the screen has columns to what can be seen of it. */

/** Per column: its middle time, and the smallest and the largest value in it. */
export interface Envelope {
  times: Float64Array;
  low: Float64Array;
  high: Float64Array;
}

/** More readings per column than this, and a line would be a scribble: the band of minimum and maximum is drawn. */
export const DENSE = 1.5;

/**
 * The envelope of the readings from `from` to `to` in at most `columns` columns. Columns without a reading are left out; a gap
 * never falls inside a column, since both of its ends begin columns of their own when they are this far apart.
 */
export function envelope(
  times: ArrayLike<number>,
  values: ArrayLike<number>,
  from: number,
  to: number,
  columns: number,
): Envelope {
  const outTimes = new Float64Array(columns);
  const low = new Float64Array(columns);
  const high = new Float64Array(columns);
  const width = (to - from) / columns;
  let count = -1;
  let column = -1;
  for (let i = 0; i < times.length; i++) {
    const value = values[i];
    if (Number.isNaN(value)) continue;
    const at = Math.min(columns - 1, Math.max(0, Math.floor((times[i] - from) / width)));
    if (at !== column || count < 0) {
      column = at;
      count++;
      outTimes[count] = from + (at + 0.5) * width;
      low[count] = value;
      high[count] = value;
    } else {
      if (value < low[count]) low[count] = value;
      if (value > high[count]) high[count] = value;
    }
  }
  count++;
  return { times: outTimes.subarray(0, count), low: low.subarray(0, count), high: high.subarray(0, count) };
}

/** Smallest and largest value, null when there is none. */
export function extent(values: ArrayLike<number>): [number, number] | null {
  let low = Number.POSITIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return low <= high ? [low, high] : null;
}

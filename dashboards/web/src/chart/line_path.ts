/** Paths of a series: its line, broken at gaps, with an area, or a minimum and maximum band for dense series. */

import type { Columns } from "../data/series_buffer";
import { withAlpha } from "./theme_colours";

/** Middle time, smallest value and largest value of each pixel column. */
interface Envelope {
  times: Float64Array;
  low: Float64Array;
  high: Float64Array;
}

/** With more readings per column than this, the minimum and maximum band is drawn instead of a line. */
const DENSE = 1.5;

/**
 * Reduce the readings from `from` to `to` to at most `columns` columns. Columns without readings are omitted. A
 * gap never lies inside a column: both of its ends start columns of their own.
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

/** Return the smallest and largest value; null if there is none. */
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

/** Mapping from times and values to canvas pixels. */
export interface Mapping {
  x0: number;
  xPerMs: number;
  from: number;
  y0: number;
  yPerUnit: number;
  min: number;
  bottom: number;
}

export function toX(mapping: Mapping, time: number): number {
  return mapping.x0 + (time - mapping.from) * mapping.xPerMs;
}

export function toY(mapping: Mapping, value: number): number {
  return mapping.y0 - (value - mapping.min) * mapping.yPerUnit;
}

interface LinePath {
  stroke: Path2D;
  fill: Path2D | null;
  /** True if the fill is the minimum and maximum band of a dense series. */
  dense: boolean;
}

const LINE_WIDTH = 1.5;
const AREA_ALPHA = 0.06;
const BAND_ALPHA = 0.15;

/** Parameters of a series path besides its readings. `pixels` is the width up to `to` in CSS pixels. */
interface PathOptions {
  mapping: Mapping;
  to: number;
  pixels: number;
  threshold: number;
  area: boolean;
}

/** Return a line through the readings, or a band if the series is dense. */
export function seriesPath(columns: Columns, options: PathOptions): LinePath {
  const { mapping, to, pixels, threshold, area } = options;
  const { times, values } = columns;
  if (times.length <= pixels * DENSE) return linePath(columns, mapping, threshold, area);
  const reduced = envelope(times, values, mapping.from, to, pixels);
  // Neighbouring columns are up to two columns apart.
  return bandPath(reduced, mapping, Math.max(threshold, ((to - mapping.from) / pixels) * 2.5));
}

export function drawPath(context: CanvasRenderingContext2D, path: LinePath, colour: string): void {
  if (path.fill !== null) {
    context.fillStyle = withAlpha(colour, path.dense ? BAND_ALPHA : AREA_ALPHA);
    context.fill(path.fill);
  }
  context.strokeStyle = colour;
  context.lineWidth = LINE_WIDTH * window.devicePixelRatio;
  context.lineJoin = "round";
  context.lineCap = "round";
  context.stroke(path.stroke);
}

/** Return a line through the readings, broken at missing values and at distances above `threshold`. */
export function linePath(columns: Columns, mapping: Mapping, threshold: number, area: boolean): LinePath {
  const { times, values } = columns;
  const stroke = new Path2D();
  const fill = area ? new Path2D() : null;
  let pen = false;
  let x = 0;
  let lastTime = 0;
  const lift = () => {
    if (pen && fill !== null) {
      fill.lineTo(x, mapping.bottom);
      fill.closePath();
    }
    pen = false;
  };
  for (let i = 0; i < times.length; i++) {
    const value = values[i];
    if (Number.isNaN(value)) {
      lift();
      continue;
    }
    if (pen && times[i] - lastTime > threshold) lift();
    x = toX(mapping, times[i]);
    const y = toY(mapping, value);
    if (pen) {
      stroke.lineTo(x, y);
      fill?.lineTo(x, y);
    } else {
      stroke.moveTo(x, y);
      // A single reading between two gaps is drawn as a point.
      stroke.lineTo(x + 0.5, y);
      fill?.moveTo(x, mapping.bottom);
      fill?.lineTo(x, y);
      pen = true;
    }
    lastTime = times[i];
  }
  lift();
  return { stroke, fill, dense: false };
}

/** Return the middle of the envelope as a line and its range as a band. */
function bandPath(envelope: Envelope, mapping: Mapping, threshold: number): LinePath {
  const { times, low, high } = envelope;
  const stroke = new Path2D();
  const fill = new Path2D();
  let start = 0;
  while (start < times.length) {
    let end = start + 1;
    while (end < times.length && times[end] - times[end - 1] <= threshold) end++;
    for (let i = start; i < end; i++) {
      const x = toX(mapping, times[i]);
      const middle = toY(mapping, (low[i] + high[i]) / 2);
      if (i === start) {
        stroke.moveTo(x, middle);
        stroke.lineTo(x + 0.5, middle);
        fill.moveTo(x, toY(mapping, high[i]));
      } else {
        stroke.lineTo(x, middle);
        fill.lineTo(x, toY(mapping, high[i]));
      }
    }
    for (let i = end - 1; i >= start; i--) fill.lineTo(toX(mapping, times[i]), toY(mapping, low[i]));
    fill.closePath();
    start = end;
  }
  return { stroke, fill, dense: true };
}

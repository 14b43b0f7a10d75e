/** What one series looks like on a sheet: its line, broken at gaps, and the area or band that belongs to it. */

import type { Columns } from "../data/series_buffer";
import type { Envelope } from "./envelope";

/** Where a time and a value are on the canvas, in its own pixels. */
export interface Mapping {
  x0: number;
  xPerMs: number;
  from: number;
  y0: number;
  yPerUnit: number;
  min: number;
  bottom: number;
}

export function xOf(mapping: Mapping, time: number): number {
  return mapping.x0 + (time - mapping.from) * mapping.xPerMs;
}

export function yOf(mapping: Mapping, value: number): number {
  return mapping.y0 - (value - mapping.min) * mapping.yPerUnit;
}

export interface LinePath {
  stroke: Path2D;
  fill: Path2D | null;
}

/** A line through the readings, broken where a value is missing or the next one is further than `threshold`. */
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
    x = xOf(mapping, times[i]);
    const y = yOf(mapping, value);
    if (pen) {
      stroke.lineTo(x, y);
      fill?.lineTo(x, y);
    } else {
      stroke.moveTo(x, y);
      // A reading alone between two gaps is a point, not nothing.
      stroke.lineTo(x + 0.5, y);
      fill?.moveTo(x, mapping.bottom);
      fill?.lineTo(x, y);
      pen = true;
    }
    lastTime = times[i];
  }
  lift();
  return { stroke, fill };
}

/** The middle of the envelope as a line, and from its lowest to its highest values as a band. */
export function bandPath(envelope: Envelope, mapping: Mapping, threshold: number): LinePath {
  const { times, low, high } = envelope;
  const stroke = new Path2D();
  const fill = new Path2D();
  let start = 0;
  while (start < times.length) {
    let end = start + 1;
    while (end < times.length && times[end] - times[end - 1] <= threshold) end++;
    for (let i = start; i < end; i++) {
      const x = xOf(mapping, times[i]);
      const middle = yOf(mapping, (low[i] + high[i]) / 2);
      if (i === start) {
        stroke.moveTo(x, middle);
        stroke.lineTo(x + 0.5, middle);
        fill.moveTo(x, yOf(mapping, high[i]));
      } else {
        stroke.lineTo(x, middle);
        fill.lineTo(x, yOf(mapping, high[i]));
      }
    }
    for (let i = end - 1; i >= start; i--) fill.lineTo(xOf(mapping, times[i]), yOf(mapping, low[i]));
    fill.closePath();
    start = end;
  }
  return { stroke, fill };
}

/** How each metric's numbers are shown, found from its own readings and kept steady. */

import { formatFor, isScaled, type NumberFormat } from "./number_format";
import type { SeriesBuffer } from "./series_buffer";

/** The newest readings that tell a metric's resolution. */
const SAMPLE = 240;

interface Kept {
  format: NumberFormat;
  buffer: SeriesBuffer;
  readings: number;
}

export class Formats {
  private readonly kept = new Map<string, Kept>();

  /** The format of one metric; looked at again when its readings have become a quarter more. */
  of(metric: string, unit: string, buffer: SeriesBuffer, integer: boolean): NumberFormat {
    const before = this.kept.get(metric);
    if (before !== undefined && before.buffer === buffer && buffer.length < before.readings * 1.25) {
      const outgrown = isScaled(unit) && Math.abs(buffer.lastValue) * before.format.scale >= 1000;
      if (!outgrown) return before.format;
    }
    const values = buffer.values.subarray(Math.max(0, buffer.length - SAMPLE));
    const format = formatFor(values, unit, { integer, before: before?.format });
    this.kept.set(metric, { format, buffer, readings: Math.max(4, buffer.length) });
    return format;
  }
}

/** One format for several metrics of one chart: the finest decimals, the largest unit. */
export function common(formats: NumberFormat[]): NumberFormat {
  const first = formats[0] ?? { decimals: 0, scale: 1, unit: "" };
  const widest = formats.reduce((chosen, format) => (format.scale < chosen.scale ? format : chosen), first);
  const decimals = formats.reduce(
    (most, format) => (format.scale === widest.scale ? Math.max(most, format.decimals) : most),
    0,
  );
  return { ...widest, decimals };
}

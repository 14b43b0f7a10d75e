/** A metric's newest reading as people read it. */

import type { MetricInfo } from "./api";
import type { Formats } from "./formats";
import { formatFor, formatValue, type NumberFormat } from "./number_format";
import type { SeriesBuffer } from "./series_buffer";

export interface ReadingText {
  text: string;
  unit: string;
}

/** The newest reading of the buffer or, while it has none, the one that the hub's list told. */
export function newestReading(
  head: MetricInfo,
  buffer: SeriesBuffer | undefined,
  formats: Formats,
): ReadingText {
  const { metric, type, unit, latest } = head;
  const integer = type === "integer";
  if (buffer === undefined || buffer.length === 0) {
    const value = latest?.value ?? null;
    if (typeof value === "number") return number(value, formatFor([value], unit, { integer }));
    if (typeof value === "boolean") return { text: value ? "on" : "off", unit: "" };
    return { text: value ?? "–", unit: "" };
  }
  const value = buffer.lastValue;
  if (type === "string") return { text: buffer.textOf(value) ?? "–", unit: "" };
  if (type === "boolean") return { text: Number.isNaN(value) ? "–" : value > 0 ? "on" : "off", unit: "" };
  return number(value, formats.of(metric, unit, buffer, integer));
}

function number(value: number, format: NumberFormat): ReadingText {
  return { text: formatValue(value, format), unit: format.unit };
}

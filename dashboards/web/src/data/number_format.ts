/** Number formatting: fixed decimals per metric from its own resolution, and large units with prefixes. */

import type { MetricDetails } from "./metrics";
import type { SeriesBuffer } from "./series_buffer";

export interface NumberFormat {
  decimals: number;
  /** Factor applied before a value is shown. */
  scale: number;
  /** Unit as shown, with its prefix. */
  unit: string;
}

const MAX_DECIMALS = 6;
/** The spread of the values is shown with at most about this many steps of the last digit. */
const USEFUL_STEPS = 500;
/** Computed values, such as an average load, have any number of decimals: more digits only show the spread in this many steps. */
const SIGNIFICANT_DIGITS = 5;
const LEAST_STEPS = 10;
const SCALED_STEPS = 10;
const MAX_SCALED_DECIMALS = 3;
/** Values that are examined for their decimals. */
const SAMPLE = 256;

const PREFIXES = ["", "k", "M", "G", "T", "P"];
const SCALED_UNITS: Record<string, string> = {
  B: "B",
  byte: "B",
  bytes: "B",
  "B/s": "B/s",
  "bytes/s": "B/s",
  bps: "bit/s",
  "bit/s": "bit/s",
  "bits/s": "bit/s",
  Hz: "Hz",
  W: "W",
  Wh: "Wh",
};
const SHOWN_UNITS: Record<string, string> = { percent: "%", celsius: "°C", degC: "°C", "1": "" };

/** Return the number of decimals that a value needs, at most MAX_DECIMALS. */
export function decimalsOf(value: number): number {
  for (let decimals = 0; decimals < MAX_DECIMALS; decimals++) {
    const scaled = value * 10 ** decimals;
    if (Math.abs(scaled - Math.round(scaled)) <= Math.abs(scaled) * 1e-9 + 1e-9) return decimals;
  }
  return MAX_DECIMALS;
}

/** Return the format for a metric with these readings. The decimals never fall below those of `before`. */
export function formatFor(
  values: ArrayLike<number>,
  unit: string,
  { integer = false, before }: { integer?: boolean; before?: NumberFormat } = {},
): NumberFormat {
  let low = Number.POSITIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  const step = Math.max(1, Math.floor(values.length / SAMPLE));
  const needed: number[] = [];
  for (let i = values.length - 1; i >= 0; i -= step) {
    const value = values[i];
    if (!Number.isFinite(value)) continue;
    if (value < low) low = value;
    if (value > high) high = value;
    needed.push(value);
  }
  const largest = needed.length === 0 ? 0 : Math.max(Math.abs(low), Math.abs(high));
  const scaling = scalingFor(largest, unit, before);
  if (needed.length === 0) return { decimals: before?.decimals ?? 0, ...scaling };
  let decimals = 0;
  if (scaling.scale !== 1) decimals = scaledDecimals(largest * scaling.scale, (high - low) * scaling.scale);
  else if (!integer) {
    const exact = needed.reduce((most, value) => Math.max(most, decimalsOf(value)), 0);
    const spread = high - low > largest * 1e-6 ? high - low : largest;
    const useful = spread > 0 ? Math.max(0, Math.ceil(Math.log10(USEFUL_STEPS / spread))) : 0;
    decimals = Math.min(exact, useful, significantDecimals(largest, spread), MAX_DECIMALS);
  }
  const minimum = before !== undefined && before.scale === scaling.scale ? before.decimals : 0;
  return { decimals: Math.max(decimals, minimum), ...scaling };
}

/** Return the decimals of a number with SIGNIFICANT_DIGITS, or more if the values differ by less. */
function significantDecimals(largest: number, spread: number): number {
  if (!(largest > 0)) return MAX_DECIMALS;
  const usual = SIGNIFICANT_DIGITS - 1 - Math.floor(Math.log10(largest));
  return Math.max(0, usual, Math.ceil(Math.log10(LEAST_STEPS / spread)));
}

/** Return one or two decimals, or more if the values differ by less. */
function scaledDecimals(largest: number, spread: number): number {
  const usual = largest >= 100 ? 1 : 2;
  if (!(spread > 0)) return usual;
  return Math.min(MAX_SCALED_DECIMALS, Math.max(usual, Math.ceil(Math.log10(SCALED_STEPS / spread))));
}

function scalingFor(largest: number, unit: string, before: NumberFormat | undefined): { scale: number; unit: string } {
  const base = SCALED_UNITS[unit];
  if (base === undefined) return { scale: 1, unit: SHOWN_UNITS[unit] ?? unit };
  let power = Math.min(PREFIXES.length - 1, Math.max(0, Math.floor(Math.log10(Math.max(largest, 1)) / 3)));
  // A value near 1,000 would switch its unit repeatedly: the prefix changes back only well below it.
  if (before !== undefined) {
    const previous = Math.round(-Math.log10(before.scale) / 3);
    if (previous > power && largest >= 300 * 1000 ** (previous - 1)) power = previous;
  }
  return { scale: 1000 ** -power, unit: `${PREFIXES[power]}${base}` };
}

const formatters = new Map<number, Intl.NumberFormat>();

/** Return a number with fixed decimals, grouped thousands and a typographic minus sign. */
export function fixed(value: number, decimals: number): string {
  let formatter = formatters.get(decimals);
  if (formatter === undefined) {
    formatter = new Intl.NumberFormat("en-US", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
    formatters.set(decimals, formatter);
  }
  const text = formatter.format(value);
  return text.startsWith("-") ? (/[1-9]/.test(text) ? `−${text.slice(1)}` : text.slice(1)) : text;
}

/** Return a value without its unit. Very large and very small values use exponents. */
export function formatValue(value: number | null | undefined, format: NumberFormat): string {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const scaled = value * format.scale;
  const size = Math.abs(scaled);
  if (size >= 1e13 || (size > 0 && size < 10 ** -format.decimals / 2 && size < 1e-4))
    return scaled.toExponential(3).replace("e+", "e").replace("-", "−");
  return fixed(scaled, format.decimals);
}

/** Return an integer with grouped thousands; a dash for an unknown one. */
export function count(value: number | null): string {
  return value === null ? "–" : fixed(value, 0);
}

/** Return a count with its noun: 1 batch, 2 batches. */
export function plural(value: number, one: string, many = `${one}s`): string {
  return `${count(value)} ${Math.abs(value) === 1 ? one : many}`;
}

/** Newest readings that determine the resolution of a metric. */
const RESOLUTION_SAMPLE = 240;

interface CachedFormat {
  format: NumberFormat;
  buffer: SeriesBuffer;
  unit: string;
  integer: boolean;
  readings: number;
}

export class FormatCache {
  private readonly formats = new Map<string, CachedFormat>();

  /** Return the format of a metric. It is computed again after the readings have grown by a quarter. */
  get(metric: string, unit: string, buffer: SeriesBuffer, integer: boolean): NumberFormat {
    const before = this.formats.get(metric);
    const isKnown = before?.buffer === buffer && before.unit === unit && before.integer === integer;
    if (before !== undefined && isKnown && buffer.length < before.readings * 1.25) {
      const outgrown = Object.hasOwn(SCALED_UNITS, unit) && Math.abs(buffer.lastValue) * before.format.scale >= 1000;
      if (!outgrown) return before.format;
    }
    const values = buffer.values.subarray(Math.max(0, buffer.length - RESOLUTION_SAMPLE));
    const format = formatFor(values, unit, { integer, before: isKnown ? before?.format : undefined });
    this.formats.set(metric, { format, buffer, unit, integer, readings: Math.max(4, buffer.length) });
    return format;
  }
}

/** Return one format for the metrics of a chart: the most decimals, the largest unit. */
export function commonFormat(formats: NumberFormat[]): NumberFormat {
  const first = formats[0] ?? { decimals: 0, scale: 1, unit: "" };
  const widest = formats.reduce((largest, format) => (format.scale < largest.scale ? format : largest), first);
  const sameUnit = formats.filter((format) => format.scale === widest.scale);
  return { ...widest, decimals: Math.max(0, ...sameUnit.map(({ decimals }) => decimals)) };
}

/** The newest reading of a metric as text. */
export interface ReadingText {
  text: string;
  unit: string;
}

/** Return the newest reading of the buffer, or the one from the hub's list while the buffer is empty. */
export function latestReading(
  head: MetricDetails,
  buffer: SeriesBuffer | undefined,
  formats: FormatCache,
): ReadingText {
  const { metric, type, unit, latest } = head;
  const integer = type === "integer";
  if (buffer === undefined || buffer.length === 0) {
    const value = latest?.value ?? null;
    if (typeof value === "number") return toText(value, formatFor([value], unit, { integer }));
    if (typeof value === "boolean") return { text: value ? "on" : "off", unit: "" };
    return { text: value ?? "–", unit: "" };
  }
  const value = buffer.lastValue;
  if (type === "string") return { text: buffer.textOf(value) ?? "–", unit: "" };
  if (type === "boolean") return { text: Number.isNaN(value) ? "–" : value > 0 ? "on" : "off", unit: "" };
  return toText(value, formats.get(metric, unit, buffer, integer));
}

function toText(value: number, format: NumberFormat): ReadingText {
  return { text: formatValue(value, format), unit: format.unit };
}

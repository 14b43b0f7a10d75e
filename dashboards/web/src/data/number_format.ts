/** Numbers as people read them: fixed decimals per metric, from the metric's own resolution; large units scaled. */

export interface NumberFormat {
  decimals: number;
  /** What a value is multiplied with before it is shown. */
  scale: number;
  /** The unit as shown, with its prefix. */
  unit: string;
}

const MAX_DECIMALS = 6;
/** A value's spread is worth at most about this many steps of the last digit. */
const USEFUL_STEPS = 500;
const SCALED_STEPS = 50;
const MAX_SCALED_DECIMALS = 4;
/** How many of the values may need more decimals than are shown. */
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

/** Decimals that show all of a value, up to MAX_DECIMALS. */
export function decimalsOf(value: number): number {
  for (let decimals = 0; decimals < MAX_DECIMALS; decimals++) {
    const scaled = value * 10 ** decimals;
    if (Math.abs(scaled - Math.round(scaled)) <= Math.abs(scaled) * 1e-9 + 1e-9) return decimals;
  }
  return MAX_DECIMALS;
}

/** How to show a metric whose readings look like these; `before` keeps the decimals from going down. */
export function formatFor(
  values: ArrayLike<number>,
  unit: string,
  options: { integer?: boolean; before?: NumberFormat } = {},
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
  const scaling = scalingFor(largest, unit, options.before);
  if (needed.length === 0) return { decimals: options.before?.decimals ?? 0, ...scaling };
  let decimals = 0;
  if (scaling.scale !== 1) decimals = scaledDecimals(largest * scaling.scale, (high - low) * scaling.scale);
  else if (options.integer !== true) {
    const exact = needed.reduce((most, value) => Math.max(most, decimalsOf(value)), 0);
    const spread = high - low > largest * 1e-6 ? high - low : largest;
    const useful = spread > 0 ? Math.max(0, Math.ceil(Math.log10(USEFUL_STEPS / spread))) : 0;
    decimals = Math.min(exact, useful, MAX_DECIMALS);
  }
  const { before } = options;
  const kept = before !== undefined && before.scale === scaling.scale ? before.decimals : 0;
  return { decimals: Math.max(decimals, kept), ...scaling };
}

/** Two or one, and more while the values differ by less than that. */
function scaledDecimals(largest: number, spread: number): number {
  const usual = largest >= 100 ? 1 : 2;
  if (!(spread > 0)) return usual;
  return Math.min(MAX_SCALED_DECIMALS, Math.max(usual, Math.ceil(Math.log10(SCALED_STEPS / spread))));
}

/** Whether a unit is shown with prefixes. */
export function isScaled(unit: string): boolean {
  return Object.hasOwn(SCALED_UNITS, unit);
}

function scalingFor(
  largest: number,
  unit: string,
  before: NumberFormat | undefined,
): { scale: number; unit: string } {
  const base = SCALED_UNITS[unit];
  if (base === undefined) return { scale: 1, unit: SHOWN_UNITS[unit] ?? unit };
  let power = Math.min(PREFIXES.length - 1, Math.max(0, Math.floor(Math.log10(Math.max(largest, 1)) / 3)));
  // A value that moves about 1,000 would change its unit all the time: it goes down only when well below.
  if (before !== undefined) {
    const held = Math.round(-Math.log10(before.scale) / 3);
    if (held > power && largest >= 300 * 1000 ** (held - 1)) power = held;
  }
  return { scale: 1000 ** -power, unit: `${PREFIXES[power]}${base}` };
}

const formatters = new Map<number, Intl.NumberFormat>();

/** A number with this many decimals, thousands grouped, with a real minus sign. */
export function fixed(value: number, decimals: number): string {
  let formatter = formatters.get(decimals);
  if (formatter === undefined) {
    formatter = new Intl.NumberFormat("en-US", {
      minimumFractionDigits: decimals,
      maximumFractionDigits: decimals,
    });
    formatters.set(decimals, formatter);
  }
  const text = formatter.format(value);
  return text.startsWith("-") ? (/[1-9]/.test(text) ? `−${text.slice(1)}` : text.slice(1)) : text;
}

/** The value as the format shows it, without its unit. A value too large or too small for it is shown by its power. */
export function formatValue(value: number | null | undefined, format: NumberFormat): string {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const scaled = value * format.scale;
  const size = Math.abs(scaled);
  if (size >= 1e13 || (size > 0 && size < 10 ** -format.decimals / 2 && size < 1e-4))
    return scaled.toExponential(3).replace("e+", "e").replace("-", "−");
  return fixed(scaled, format.decimals);
}

/** A whole number, grouped. */
export function count(value: number): string {
  return fixed(value, 0);
}

/** A chart's vertical range: round bounds with some air, which do not jump when the data move a little. */

export interface YRange {
  min: number;
  max: number;
  /** The distance of two grid lines; min and max are multiples of it. */
  step: number;
}

/** Grid lines that a chart should have at least. */
const LINES = 4;
/** The range is made smaller only when the data fill less of it than this … */
const SHRINK_BELOW = 0.45;
/** … and have done so for this long. */
const SHRINK_AFTER_MS = 8000;

/** A round step of 1, 2, 2.5 or 5 times a power of ten, at least as large as `step`. */
export function roundStep(step: number): number {
  const power = 10 ** Math.floor(Math.log10(step));
  const ratio = step / power;
  for (const round of [1, 2, 2.5, 5]) if (ratio <= round * (1 + 1e-9)) return round * power;
  return 10 * power;
}

/** The range for data from `low` to `high`. Values that do not change get a range around them. */
export function rangeFor(low: number, high: number, lines = LINES): YRange {
  let spread = high - low;
  if (!(spread > Math.abs(high) * 1e-9)) spread = Math.abs(high) * 0.1 || 1;
  const middle = (low + high) / 2;
  const bottom = Math.min(low, middle - spread / 2) - spread * 0.04;
  const top = Math.max(high, middle + spread / 2) + spread * 0.04;
  const step = roundStep((top - bottom) / lines);
  let min = Math.floor(bottom / step) * step;
  const max = Math.ceil(top / step) * step;
  // A quantity that never is negative does not need room below zero.
  if (low >= 0 && min < 0) min = 0;
  return { min, max, step };
}

/** The multiples of the step from min to max. */
export function ticks({ min, max, step }: YRange): number[] {
  const first = Math.ceil(min / step - 1e-6);
  const last = Math.floor(max / step + 1e-6);
  return Array.from({ length: Math.max(0, Math.min(last - first + 1, 50)) }, (_, i) => {
    const tick = (first + i) * step;
    return Math.abs(tick) < step * 1e-9 ? 0 : tick;
  });
}

/** Follows the data's extent over time: grows at once, shrinks late. */
export class SteadyRange {
  current: YRange | null = null;
  private smallSince: number | null = null;

  /** The range to draw with; `now` in milliseconds of any steady clock. */
  follow(low: number, high: number, now: number, lines = LINES): YRange {
    const wanted = rangeFor(low, high, lines);
    const { current } = this;
    if (current === null || low < current.min || high > current.max) {
      this.smallSince = null;
      this.current = current === null ? wanted : grown(current, low, high, lines);
    } else if (wanted.max - wanted.min < (current.max - current.min) * SHRINK_BELOW) {
      this.smallSince ??= now;
      if (now - this.smallSince >= SHRINK_AFTER_MS) {
        this.current = wanted;
        this.smallSince = null;
      }
    } else this.smallSince = null;
    return this.current as YRange;
  }

  /** Takes the data's own range now: the data are others than before. */
  reset(): void {
    this.current = null;
    this.smallSince = null;
  }
}

/** Grows only at the side where the data left the range. */
function grown(current: YRange, low: number, high: number, lines: number): YRange {
  const wanted = rangeFor(Math.min(low, current.min), Math.max(high, current.max), lines);
  const onlyUp = low >= current.min;
  const onlyDown = high <= current.max;
  return {
    step: wanted.step,
    min: onlyUp ? Math.max(wanted.min, Math.floor(current.min / wanted.step) * wanted.step) : wanted.min,
    max: onlyDown ? Math.min(wanted.max, Math.ceil(current.max / wanted.step) * wanted.step) : wanted.max,
  };
}

/** Axes of a chart: the labels of the time axis, and a stable range for the values. */

import { clock, DAY, day, MINUTE, SECOND } from "../data/time";

/**
 * Return a label for each time, `step` milliseconds apart: the clock time, and the date where the day changes or
 * at the first label if it is not today.
 */
export function timeLabels(times: readonly number[], step: number, now: number): string[] {
  return times.map((time, index) => {
    if (step >= DAY) return day(time, now);
    const date = new Date(time);
    const midnight = date.getHours() === 0 && date.getMinutes() === 0 && date.getSeconds() === 0 && time % SECOND === 0;
    if (midnight) return day(time, now);
    const text = clock(time, step >= MINUTE ? "minutes" : step >= SECOND ? "seconds" : "milliseconds");
    const otherDay = index === 0 && date.toDateString() !== new Date(now).toDateString();
    return otherDay ? `${day(time, now)} ${text}` : text;
  });
}

/** Width of a card for each label of the time axis. Narrow cards have theirs closer, so that there is more than one. */
const LABEL_REM = 6;
const NARROW_LABEL_REM = 3.75;
const NARROW_CARD_REM = 31;

/**
 * Return the least distance of two labels of the time axis on a plot of this width. Charts side by side have equal
 * cards, but plots of other widths, beside the labels of their values: the number of labels depends on the card, so
 * that they show equal times.
 */
export function labelSpace(card_rem: number, width: number): number {
  const labels = Math.max(2, Math.floor(card_rem / (card_rem < NARROW_CARD_REM ? NARROW_LABEL_REM : LABEL_REM)));
  // Rounding must not decide about a distance that fits exactly.
  return (width / labels) * 0.999;
}

/** Range of the value axis with round limits. */
export interface YRange {
  min: number;
  max: number;
  /** Distance of grid lines; min and max are multiples of it. */
  step: number;
}

/** Minimum number of grid lines. */
const LINES = 4;
/** The range shrinks only when the data fill less of it than this fraction. */
const SHRINK_BELOW = 0.45;
/** The data must stay small for this long before the range shrinks. */
const SHRINK_AFTER_MS = 8000;

/** Return 1, 2, 2.5 or 5 times a power of ten, at least `step`. */
export function roundStep(step: number): number {
  const power = 10 ** Math.floor(Math.log10(step));
  const ratio = step / power;
  for (const round of [1, 2, 2.5, 5]) if (ratio <= round * (1 + 1e-9)) return round * power;
  return 10 * power;
}

/** Return the range for values from `low` to `high`. Constant values get a range around them. Integers need `minStep` 1. */
export function rangeFor(low: number, high: number, lines = LINES, minStep = 0): YRange {
  let spread = high - low;
  if (!(spread > Math.abs(high) * 1e-9)) spread = Math.abs(high) * 0.1 || 1;
  const middle = (low + high) / 2;
  const bottom = Math.min(low, middle - spread / 2) - spread * 0.04;
  const top = Math.max(high, middle + spread / 2) + spread * 0.04;
  const step = Math.max(minStep, roundStep((top - bottom) / lines));
  let min = Math.floor(bottom / step) * step;
  const max = Math.ceil(top / step) * step;
  // Values that are never negative need no space below zero.
  if (low >= 0 && min < 0) min = 0;
  return { min, max, step };
}

/** Return the multiples of the step from min to max. */
export function ticks({ min, max, step }: YRange): number[] {
  const first = Math.ceil(min / step - 1e-6);
  const last = Math.floor(max / step + 1e-6);
  return Array.from({ length: Math.max(0, Math.min(last - first + 1, 50)) }, (_, i) => {
    const tick = (first + i) * step;
    return Math.abs(tick) < step * 1e-9 ? 0 : tick;
  });
}

/** Range that follows the data: it grows immediately and shrinks late, so that the axis does not jump. */
export class SteadyRange {
  current: YRange | null = null;
  private readonly minStep: number;
  private smallSince: number | null = null;

  constructor(minStep = 0) {
    this.minStep = minStep;
  }

  /** Return the range to draw with. `now` is in milliseconds of any monotonic clock. */
  follow(low: number, high: number, now: number, lines = LINES): YRange {
    const target = rangeFor(low, high, lines, this.minStep);
    const { current } = this;
    if (current === null || low < current.min || high > current.max) {
      this.smallSince = null;
      this.current = current === null ? target : this.grow(current, low, high, lines);
    } else if (target.max - target.min < (current.max - current.min) * SHRINK_BELOW) {
      this.smallSince ??= now;
      if (now - this.smallSince >= SHRINK_AFTER_MS) {
        this.current = target;
        this.smallSince = null;
      }
    } else this.smallSince = null;
    return this.current as YRange;
  }

  /** Use the range of the next data: the drawn series have changed. */
  reset(): void {
    this.current = null;
    this.smallSince = null;
  }

  /** Extend the range only on the side that the data exceed. */
  private grow(current: YRange, low: number, high: number, lines: number): YRange {
    const target = rangeFor(Math.min(low, current.min), Math.max(high, current.max), lines, this.minStep);
    const { step } = target;
    return {
      step,
      min: low < current.min ? target.min : Math.max(target.min, Math.floor(current.min / step) * step),
      max: high > current.max ? target.max : Math.min(target.max, Math.ceil(current.max / step) * step),
    };
  }
}

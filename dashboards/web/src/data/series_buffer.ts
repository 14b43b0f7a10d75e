/**
 * Readings of one series: times in milliseconds and values as float64 columns in time order. Strings are stored as
 * positions in the series' own list of distinct texts.
 */

/**
 * Limit per series. A chart on a 4K screen shows less than half of it; at 16 bytes per point 1,000 series stay
 * below 350 MB. Beyond it the older half is thinned: peaks of numbers and changes of states remain.
 */
const MAX_POINTS = 20_000;

const FIRST_CAPACITY = 256;

export class SeriesBuffer {
  private allTimes = new Float64Array(FIRST_CAPACITY);
  private allValues = new Float64Array(FIRST_CAPACITY);
  private start = 0;
  private end = 0;
  private readonly maxPoints: number;
  private readonly thinning: (columns: Columns) => Columns;
  private texts: string[] = [];
  private codes = new Map<string, number>();
  /** Counts every change other than an append; drawings of older revisions are void. */
  revision = 0;

  constructor(options: { states?: boolean; maxPoints?: number } = {}) {
    this.maxPoints = options.maxPoints ?? MAX_POINTS;
    this.thinning = options.states === true ? keepChanges : keepPeaks;
  }

  get length(): number {
    return this.end - this.start;
  }

  /** View of the times, valid until the next change. */
  get times(): Float64Array {
    return this.allTimes.subarray(this.start, this.end);
  }

  /** View of the values, NaN for no value, valid until the next change. */
  get values(): Float64Array {
    return this.allValues.subarray(this.start, this.end);
  }

  get firstTime(): number {
    return this.length === 0 ? Number.NaN : this.allTimes[this.start];
  }

  get lastTime(): number {
    return this.length === 0 ? Number.NaN : this.allTimes[this.end - 1];
  }

  get lastValue(): number {
    return this.length === 0 ? Number.NaN : this.allValues[this.end - 1];
  }

  /** Return the number of a text in this series. */
  codeOf(text: string): number {
    let code = this.codes.get(text);
    if (code === undefined) {
      code = this.texts.length;
      this.texts.push(text);
      this.codes.set(text, code);
    }
    return code;
  }

  textOf(code: number): string | null {
    return this.texts[code] ?? null;
  }

  /**
   * Add readings in time order. Return true if all are newer than the existing ones. With `once`, skip existing
   * readings.
   */
  add(times: ArrayLike<number>, values: ArrayLike<number>, options: { once?: boolean } = {}): boolean {
    const count = times.length;
    if (count === 0) return true;
    const appended = isAscending(times) && !(times[0] < this.lastTime) && !(options.once && times[0] === this.lastTime);
    if (appended) {
      this.reserve(count);
      this.allTimes.set(times, this.end);
      this.allValues.set(values, this.end);
      this.end += count;
    } else {
      this.assign(merge(this.times, this.values, ascending(times, values), options.once === true));
    }
    if (this.length > this.maxPoints) this.thin();
    return appended;
  }

  /** Replace all readings between `from` and `to`, both included. */
  replace(from: number, to: number, times: ArrayLike<number>, values: ArrayLike<number>): void {
    this.assign(splice(this, lowerBound(this.times, from), upperBound(this.times, to), ascending(times, values)));
  }

  /** Remove readings before `time` except the last one: the line continues to the edge of the chart. */
  dropBefore(time: number): void {
    const first = lowerBound(this.times, time) - 1;
    if (first > 0) this.start += first;
  }

  private thin(): void {
    const half = this.length >> 1;
    this.assign(splice(this, 0, half, this.thinning(slice(this, 0, half))));
    // States that change with every reading cannot be thinned.
    if (this.length > this.maxPoints) this.start = this.end - this.maxPoints;
  }

  private assign(columns: Columns): void {
    this.start = 0;
    this.end = 0;
    this.reserve(columns.times.length);
    this.allTimes.set(columns.times);
    this.allValues.set(columns.values);
    this.end = columns.times.length;
    this.revision++;
  }

  private reserve(count: number): void {
    const needed = this.length + count;
    if (this.end + count <= this.allTimes.length) return;
    if (needed * 2 <= this.allTimes.length) {
      this.allTimes.copyWithin(0, this.start, this.end);
      this.allValues.copyWithin(0, this.start, this.end);
    } else {
      const capacity = Math.max(needed + (needed >> 1), FIRST_CAPACITY);
      this.allTimes = concat(this.times, new Float64Array(capacity - this.length));
      this.allValues = concat(this.values, new Float64Array(capacity - this.length));
    }
    this.end = this.length;
    this.start = 0;
  }
}

export interface Columns {
  readonly times: Float64Array;
  readonly values: Float64Array;
}

/** Return a view of the readings from position `first` to `end`. */
export function slice({ times, values }: Columns, first: number, end?: number): Columns {
  return { times: times.subarray(first, end), values: values.subarray(first, end) };
}

/** Return a copy with the readings from position `first` to `end` replaced by others. */
export function splice({ times, values }: Columns, first: number, end: number, added: Columns): Columns {
  return {
    times: concat(times.subarray(0, first), added.times, times.subarray(end)),
    values: concat(values.subarray(0, first), added.values, values.subarray(end)),
  };
}

/** Return the position of the first time at or after `time`. */
export function lowerBound(times: ArrayLike<number>, time: number): number {
  return firstPosition(times, (other) => other >= time);
}

/** Return the position of the first time after `time`. */
export function upperBound(times: ArrayLike<number>, time: number): number {
  return firstPosition(times, (other) => other > time);
}

function firstPosition(times: ArrayLike<number>, reached: (time: number) => boolean): number {
  let low = 0;
  let high = times.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (reached(times[middle])) high = middle;
    else low = middle + 1;
  }
  return low;
}

function isAscending(times: ArrayLike<number>): boolean {
  for (let i = 1; i < times.length; i++) if (times[i] < times[i - 1]) return false;
  return true;
}

function ascending(times: ArrayLike<number>, values: ArrayLike<number>): Columns {
  if (isAscending(times)) return { times: Float64Array.from(times), values: Float64Array.from(values) };
  const order = Array.from(times, (_, index) => index).sort((a, b) => times[a] - times[b] || a - b);
  return pick(times, values, order);
}

/** Merge in time order, existing readings first at equal times. With `once`, skip readings that exist already. */
function merge(times: Float64Array, values: Float64Array, added: Columns, once: boolean): Columns {
  const total = times.length + added.times.length;
  const mergedTimes = new Float64Array(total);
  const mergedValues = new Float64Array(total);
  let existing = 0;
  let count = 0;
  for (let i = 0; i < added.times.length; i++) {
    const time = added.times[i];
    while (existing < times.length && times[existing] <= time) {
      mergedTimes[count] = times[existing];
      mergedValues[count++] = values[existing++];
    }
    if (once && containsAtEnd(mergedTimes, mergedValues, count, time, added.values[i])) continue;
    mergedTimes[count] = time;
    mergedValues[count++] = added.values[i];
  }
  mergedTimes.set(times.subarray(existing), count);
  mergedValues.set(values.subarray(existing), count);
  count += times.length - existing;
  return { times: mergedTimes.subarray(0, count), values: mergedValues.subarray(0, count) };
}

function containsAtEnd(times: Float64Array, values: Float64Array, count: number, time: number, value: number): boolean {
  for (let i = count - 1; i >= 0 && times[i] === time; i--) if (Object.is(values[i], value)) return true;
  return false;
}

/** Keep the smallest and largest of every four readings at their own times, and all missing values. */
function keepPeaks({ times, values }: Columns): Columns {
  const kept: number[] = [];
  for (let i = 0; i < times.length; i += 4) {
    let low = i;
    let high = i;
    for (let j = i; j < Math.min(i + 4, times.length); j++) {
      if (Number.isNaN(values[j])) kept.push(j);
      else {
        if (!(values[j] >= values[low])) low = j;
        if (!(values[j] <= values[high])) high = j;
      }
    }
    kept.push(low, high);
  }
  const inOrder = [...new Set(kept)].sort((a, b) => a - b);
  return pick(times, values, inOrder);
}

/** Keep readings that differ from the previous one. */
function keepChanges({ times, values }: Columns): Columns {
  const kept: number[] = [];
  for (let i = 0; i < times.length; i++)
    if (i === 0 || i === times.length - 1 || !Object.is(values[i], values[i - 1])) kept.push(i);
  return pick(times, values, kept);
}

/** Return the readings at these positions. */
function pick(times: ArrayLike<number>, values: ArrayLike<number>, positions: number[]): Columns {
  return {
    times: Float64Array.from(positions, (position) => times[position]),
    values: Float64Array.from(positions, (position) => values[position]),
  };
}

function concat(...parts: Float64Array[]): Float64Array<ArrayBuffer> {
  const whole = new Float64Array(parts.reduce((sum, part) => sum + part.length, 0));
  let position = 0;
  for (const part of parts) {
    whole.set(part, position);
    position += part.length;
  }
  return whole;
}

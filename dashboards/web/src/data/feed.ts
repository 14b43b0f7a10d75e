/**
 * The readings of one device as they come: history, what was missed, and live, in one buffer per metric. While the hub
 * sends a new beginning, what was held stays visible until the new data are complete.
 */

import type { Subscriber } from "../connection/live_connection";
import { Kind, type Update } from "../wire/frames";
import type { Policy, Series } from "../wire/live";
import { SeriesBuffer } from "./series_buffer";
import type { Stretch } from "./stretch";

export interface FeedOptions {
  device: string;
  metrics: string[];
  policy: Policy;
  period_ms: number;
  span_ms: number;
  points: number;
}

export interface FeedSeries {
  info: Series;
  buffer: SeriesBuffer;
}

/** A stretch that the hub summarised because this page's connection was slow. */
export interface Conflated extends Stretch {
  readings: number;
}

/** Stretches of late readings kept for marking; the oldest are forgotten. */
const MAX_LATE = 64;
/** Late stretches closer than this are one. */
const LATE_JOIN_MS = 5000;

export class Feed {
  readonly options: FeedOptions;
  series = new Map<string, FeedSeries>();
  /** Counts every change; who draws compares it with what was drawn. */
  version = 0;
  /** Whether history is here and updates are live. */
  live = false;
  late: Stretch[] = [];
  onLive: (() => void) | null = null;
  onConflated: ((conflated: Conflated) => void) | null = null;
  onSeries: (() => void) | null = null;
  onChange: (() => void) | null = null;
  /** A reading has just come. */
  onHeard: (() => void) | null = null;
  private reduced: ReadonlySet<string> = new Set();
  private readonly silent = new Map<string, SeriesBuffer>();
  private incoming: Map<string, FeedSeries> | null = null;
  private bySeries = new WeakMap<Series, FeedSeries>();
  private readonly unsubscribe: () => void;
  private lastTime = Number.NaN;

  constructor(connection: Subscriber, options: FeedOptions) {
    this.options = options;
    const { device, metrics, policy, period_ms, span_ms, points } = options;
    this.unsubscribe = connection.subscribe(
      { devices: [device], metrics, policy, period_ms, history: { span_ms: Math.round(span_ms), points } },
      {
        started: (start) => {
          if (start !== "cursor") this.beginAnew();
        },
        reset: () => this.beginAnew(),
        update: (update, series) => this.update(update, series),
        caughtUp: () => this.caughtUp(),
        failed: () => {},
      },
    );
  }

  close(): void {
    this.unsubscribe();
    this.onLive = null;
    this.onConflated = null;
    this.onSeries = null;
    this.onHeard = null;
    this.onChange = null;
  }

  /** The readings of a metric; an empty buffer while none has come, so that its past can be shown all the same. */
  bufferOf(metric: string): SeriesBuffer {
    const held = this.series.get(metric)?.buffer ?? this.silent.get(metric);
    if (held !== undefined) return held;
    const empty = new SeriesBuffer();
    this.silent.set(metric, empty);
    return empty;
  }

  /** Whether what is held shows a metric from `from` on at this resolution, so that the hub need not be asked. */
  holds(metric: string, from: number, msPerPx: number): boolean {
    const held = this.series.get(metric)?.buffer;
    if (held === undefined || !(held.firstTime <= from)) return false;
    const step = this.reduced.has(metric) ? this.options.span_ms / (this.options.points / 2) : 0;
    return step <= msPerPx * 3;
  }

  /** Forgets what is older than the feed's span; called now and then by who draws. */
  dropBefore(time: number): void {
    for (const { buffer } of this.series.values()) buffer.dropBefore(time);
  }

  private beginAnew(): void {
    this.live = false;
    // What is on the screen stays there until the new data are complete.
    this.incoming = this.series.size > 0 ? new Map() : null;
    this.bySeries = new WeakMap();
  }

  private caughtUp(): void {
    if (this.incoming !== null) {
      this.series = this.incoming;
      this.incoming = null;
      this.late = [];
      this.onSeries?.();
    }
    this.live = true;
    // With as many points as were asked for, the hub has most likely left some out.
    this.reduced = new Set(
      [...this.series]
        .filter(([, { buffer }]) => buffer.length >= this.options.points * 0.45)
        .map(([metric]) => metric),
    );
    this.version++;
    this.onLive?.();
  }

  private update(update: Update, series: Series[]): void {
    let first = Number.POSITIVE_INFINITY;
    let last = Number.NEGATIVE_INFINITY;
    // Readings of the catching up may overlap at their seams; those of a live stream never do.
    const once = update.kind !== Kind.LIVE;
    for (const column of update.numbers) {
      if (column.times_ms.length === 0) continue;
      const held = this.seriesOf(series[column.series]);
      this.add(held, column.times_ms, column.values, once);
      first = Math.min(first, column.times_ms[0]);
      last = Math.max(last, column.times_ms[column.times_ms.length - 1]);
    }
    for (const column of update.texts) {
      if (column.times_ms.length === 0) continue;
      const held = this.seriesOf(series[column.series]);
      const codes = column.values.map((text) => (text === null ? Number.NaN : held.buffer.codeOf(text)));
      this.add(held, column.times_ms, codes, once);
      last = Math.max(last, column.times_ms[column.times_ms.length - 1]);
    }
    if (update.conflated > 0 && this.options.policy === "every" && Number.isFinite(last)) {
      const from = Math.min(Number.isNaN(this.lastTime) ? first : this.lastTime, first);
      this.onConflated?.({ from, to: last, readings: update.conflated });
    }
    if (last > this.lastTime || Number.isNaN(this.lastTime)) this.lastTime = last;
    this.version++;
    this.onChange?.();
    if (update.kind === Kind.LIVE && Number.isFinite(last)) this.onHeard?.();
  }

  private add(held: FeedSeries, times: ArrayLike<number>, values: ArrayLike<number>, once: boolean): void {
    const newest = held.buffer.lastTime;
    const appended = held.buffer.add(times, values, { once });
    if (!appended && this.live && times[0] < newest)
      this.markLate(times[0], Math.min(newest, times[times.length - 1]));
  }

  private markLate(from: number, to: number): void {
    const near = this.late.find(
      (interval) => from <= interval.to + LATE_JOIN_MS && to >= interval.from - LATE_JOIN_MS,
    );
    if (near !== undefined) {
      near.from = Math.min(near.from, from);
      near.to = Math.max(near.to, to);
    } else this.late = [...this.late.slice(-(MAX_LATE - 1)), { from, to }];
  }

  private seriesOf(info: Series): FeedSeries {
    const known = this.bySeries.get(info);
    if (known !== undefined) return known;
    const into = this.incoming ?? this.series;
    let held = into.get(info.metric);
    if (held === undefined) {
      const states = info.type === "string" || info.type === "boolean";
      held = { info, buffer: new SeriesBuffer({ states }) };
      into.set(info.metric, held);
      if (into === this.series) this.onSeries?.();
    }
    held.info = info;
    this.bySeries.set(info, held);
    return held;
  }
}

/**
 * Readings of one device in one buffer per metric: history, missed readings and live readings. After a reset the
 * page keeps the previous data until the new data are complete.
 */

import type { Subscriber } from "../connection/live_connection";
import { Kind, type Update } from "../wire/frames";
import type { Policy, Series } from "../wire/live";
import { isState } from "./metrics";
import { SeriesBuffer } from "./series_buffer";
import type { TimeRange } from "./time";

interface FeedOptions {
  device: string;
  metrics: string[];
  policy: Policy;
  period_ms: number;
  span_ms: number;
  points: number;
}

interface FeedSeries {
  info: Series;
  buffer: SeriesBuffer;
}

/** A time range that the hub summarised because the connection of this page is slow. */
export interface Conflated extends TimeRange {
  readings: number;
}

/** Ranges with late readings; beyond this number the oldest are removed. */
const MAX_LATE = 64;
/** Late ranges closer than this are joined. */
const LATE_JOIN_MS = 5000;

/** Number of changes of all feeds. */
let changes = 0;

export class Feed {
  readonly options: FeedOptions;
  series = new Map<string, FeedSeries>();
  /**
   * Number of the last change, which a chart compares with the one it has drawn. It is unique among all feeds: a chart
   * that switches to another feed sees a change, also if both feeds received equally many frames.
   */
  version = ++changes;
  /** True when the history is complete and updates are live. */
  live = false;
  late: TimeRange[] = [];
  onLive: (() => void) | null = null;
  onConflated: ((conflated: Conflated) => void) | null = null;
  onSeries: (() => void) | null = null;
  /** Called when a series has another name, type, unit or description. */
  onDescribed: (() => void) | null = null;
  onChange: (() => void) | null = null;
  /** Called for each live reading. */
  onReading: (() => void) | null = null;
  private reduced: ReadonlySet<string> = new Set();
  private readonly emptyBuffers = new Map<string, SeriesBuffer>();
  private incoming: Map<string, FeedSeries> | null = null;
  private bySeries = new WeakMap<Series, FeedSeries>();
  private schema: Series[] = [];
  /** End the subscription. */
  readonly close: () => void;
  private lastTime = Number.NaN;

  constructor(connection: Subscriber, options: FeedOptions) {
    this.options = options;
    const { device, metrics, policy, period_ms, span_ms, points } = options;
    this.close = connection.subscribe(
      { devices: [device], metrics, policy, period_ms, history: { span_ms: Math.round(span_ms), points } },
      {
        started: (start) => {
          this.schema = []; // positions may mean other series from now on
          if (start !== "cursor") this.restart();
        },
        described: (series) => this.followSchema(series),
        reset: () => this.restart(),
        update: (update, series) => this.update(update, series),
        caughtUp: () => this.caughtUp(),
        failed: () => {},
      },
    );
  }

  /**
   * Return the readings of a metric. Before the first reading the buffer is empty, and the chart can still show
   * its past.
   */
  bufferOf(metric: string): SeriesBuffer {
    const existing = this.series.get(metric)?.buffer ?? this.emptyBuffers.get(metric);
    if (existing !== undefined) return existing;
    const empty = new SeriesBuffer();
    this.emptyBuffers.set(metric, empty);
    return empty;
  }

  /** Return whether the buffer shows a metric from `from` on at this resolution, without a request to the hub. */
  covers(metric: string, from: number, msPerPx: number): boolean {
    const buffer = this.series.get(metric)?.buffer;
    if (buffer === undefined || !(buffer.firstTime <= from)) return false;
    const step = this.reduced.has(metric) ? this.options.span_ms / (this.options.points / 2) : 0;
    return step <= msPerPx * 3;
  }

  /** Remove readings older than `time`. The owner of the feed calls it periodically. */
  dropBefore(time: number): void {
    for (const { buffer } of this.series.values()) buffer.dropBefore(time);
  }

  /** Record that readings were added or replaced. */
  recordChange(): void {
    this.version = ++changes;
  }

  private restart(): void {
    this.live = false;
    // The page shows the previous data until the new data are complete.
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
    // As many points as requested: the hub probably reduced the history.
    const reduced = [...this.series].filter(([, { buffer }]) => buffer.length >= this.options.points * 0.45);
    this.reduced = new Set(reduced.map(([metric]) => metric));
    this.recordChange();
    this.onLive?.();
  }

  private update(update: Update, series: Series[]): void {
    let first = Number.POSITIVE_INFINITY;
    let last = Number.NEGATIVE_INFINITY;
    if (series !== this.schema) this.followSchema(series);
    // Catch-up readings may overlap where their parts meet; live readings never do.
    const once = update.kind !== Kind.LIVE;
    for (const { series: position, times_ms, values } of [...update.numbers, ...update.texts]) {
      if (times_ms.length === 0) continue;
      const { buffer } = this.seriesOf(series[position]);
      const codeOf = (text: string | null) => (text === null ? Number.NaN : buffer.codeOf(text));
      this.add(buffer, times_ms, Array.isArray(values) ? values.map(codeOf) : values, once);
      first = Math.min(first, times_ms[0]);
      last = Math.max(last, times_ms[times_ms.length - 1]);
    }
    if (update.conflated > 0 && this.options.policy === "every" && Number.isFinite(last)) {
      const from = Math.min(Number.isNaN(this.lastTime) ? first : this.lastTime, first);
      this.onConflated?.({ from, to: last, readings: update.conflated });
    }
    if (last > this.lastTime || Number.isNaN(this.lastTime)) this.lastTime = last;
    this.recordChange();
    this.onChange?.();
    if (update.kind === Kind.LIVE && Number.isFinite(last)) this.onReading?.();
  }

  /** Apply changed descriptions. A renamed series keeps its readings; one that becomes a state or a number does not. */
  private followSchema(series: Series[]): void {
    const before = this.schema;
    this.schema = series;
    const changed = series.filter((info, position) => position < before.length && !isSame(before[position], info));
    for (const info of changed) {
      const { metric, type } = before[series.indexOf(info)];
      for (const known of [this.series, this.incoming]) {
        const buffer = known?.get(metric)?.buffer;
        known?.delete(metric);
        if (buffer === undefined) continue;
        const keeps = isState(type ?? "float") === isState(info.type ?? "float");
        known?.set(info.metric, { info, buffer: keeps ? buffer : newBuffer(info) });
      }
    }
    if (changed.length === 0) return;
    this.bySeries = new WeakMap();
    this.recordChange();
    this.onSeries?.();
    this.onDescribed?.();
  }

  private add(buffer: SeriesBuffer, times: ArrayLike<number>, values: ArrayLike<number>, once: boolean): void {
    const newest = buffer.lastTime;
    const appended = buffer.add(times, values, { once });
    if (!appended && this.live && times[0] < newest) this.markLate(times[0], Math.min(newest, times[times.length - 1]));
  }

  private markLate(from: number, to: number): void {
    const near = this.late.find((interval) => from <= interval.to + LATE_JOIN_MS && to >= interval.from - LATE_JOIN_MS);
    if (near !== undefined) {
      near.from = Math.min(near.from, from);
      near.to = Math.max(near.to, to);
    } else this.late = [...this.late.slice(-(MAX_LATE - 1)), { from, to }];
  }

  private seriesOf(info: Series): FeedSeries {
    const known = this.bySeries.get(info);
    if (known !== undefined) return known;
    const into = this.incoming ?? this.series;
    let feedSeries = into.get(info.metric);
    if (feedSeries === undefined) {
      feedSeries = { info, buffer: newBuffer(info) };
      into.set(info.metric, feedSeries);
      if (into === this.series) this.onSeries?.();
    }
    feedSeries.info = info;
    this.bySeries.set(info, feedSeries);
    return feedSeries;
  }
}

function newBuffer({ type }: Series): SeriesBuffer {
  return new SeriesBuffer({ states: isState(type ?? "float") });
}

function isSame(one: Series, other: Series): boolean {
  return (
    one.metric === other.metric &&
    one.type === other.type &&
    one.unit === other.unit &&
    one.description === other.description
  );
}

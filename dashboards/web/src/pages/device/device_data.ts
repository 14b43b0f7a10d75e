/** What a device's page shows: the feed that fits the view, the past, events, and what was summarised. */

import { effect, type Signal, signal, untracked } from "@preact/signals";
import { compose, inCodesOf } from "../../chart/compose";
import { Conductor } from "../../chart/conductor";
import { RANGES, spanOf, type View } from "../../chart/view";
import { type DeviceEvent, fetchEvents, fetchHistory } from "../../data/api";
import { type Conflated, Feed } from "../../data/feed";
import { Formats } from "../../data/formats";
import { HistoryWindow, windowOf } from "../../data/history_window";
import type { Hub } from "../../data/hub";
import type { MetricHead } from "../../data/metrics";
import { formatFor, type NumberFormat } from "../../data/number_format";
import type { Columns } from "../../data/series_buffer";

/** Short spans come with every reading, up to 13 a second for five minutes. */
const SHORT_SPAN_MS = 15 * 60_000;
const SHORT_POINTS = 4000;
const LONG_POINTS = 3000;
const PERIOD_MS = 100;
/** Summarised stretches are asked for again once the connection has been quick for this long. */
const REFETCH_AFTER_MS = 1500;
/** How long it is told that readings were summarised, after they have been fetched. */
const NOTICE_MS = 6000;
const EVENTS = 100;
/** Readings older than the feed's span are forgotten this often. */
const FORGET_EVERY_MS = 10_000;

export interface Notice {
  readings: number;
  fetched: boolean;
}

export class DeviceData {
  readonly conductor: Conductor;
  readonly events: Signal<DeviceEvent[]> = signal([]);
  readonly notice: Signal<Notice | null> = signal(null);
  /** Whether the first data are here. */
  readonly ready = signal(false);
  readonly formats = new Formats();
  private readonly hub: Hub;
  private readonly device: string;
  private feed: Feed;
  private next: Feed | null = null;
  private conflated: Conflated | null = null;
  private eventsKey = "";
  private refetchTimer = 0;
  private noticeTimer = 0;
  private readonly forgetTimer: number;
  private readonly stops: (() => void)[] = [];

  constructor(hub: Hub, device: string, view: Signal<View>) {
    this.hub = hub;
    this.device = device;
    this.feed = this.makeFeed(feedSpan(spanOf(view.peek())));
    this.feed.onLive = () => {
      this.ready.value = true;
      this.conductor.request();
    };
    const window_ = new HistoryWindow(device);
    this.conductor = new Conductor(device, view, this.feed, window_);
    this.forgetTimer = window.setInterval(() => this.forget(), FORGET_EVERY_MS);
    this.stops.push(
      effect(() => {
        const shown = view.value;
        if (shown.mode === "live") this.follow(feedSpan(shown.span_ms));
        this.conductor.request();
      }),
      effect(() => {
        const state = hub.fleet.records.get(device)?.state.value;
        hub.fleet.version.value;
        const ahead_ns = state?.clock_offset_ns ?? 0;
        const error_ns = state?.clock_error_ns ?? 0;
        // Within its error the offset is noise; beyond it the newest readings are where the device's clock is.
        untracked(() => {
          this.conductor.ahead_ms = Math.abs(ahead_ns) > Math.max(error_ns, 1e9) ? ahead_ns / 1e6 : 0;
        });
      }),
      effect(() => {
        // Connecting, disconnecting and a new session are events; the list is asked for again after each.
        const state = hub.fleet.records.get(device)?.state.value;
        void [hub.fleet.version.value, state?.since, state?.connected];
        const status = hub.connection.status.value.state;
        untracked(() => {
          const key = `${status} ${state?.since} ${state?.connected}`;
          if (status === "live" && key !== this.eventsKey) {
            this.eventsKey = key;
            void this.loadEvents();
          }
        });
      }),
    );
  }

  /** What the charts have of a metric: the feed's readings and, in the past, the hub's answer. */
  columnsOf(metric: string): Columns {
    const buffer = this.feed.bufferOf(metric);
    return compose(buffer, inCodesOf(buffer, this.conductor.window.series.get(metric)));
  }

  /** How a metric's numbers are shown: from its live readings or, without any, from those of the past that is shown. */
  formatOf({ metric, unit, type }: MetricHead): NumberFormat {
    const integer = type === "integer";
    const buffer = this.feed.bufferOf(metric);
    if (buffer.length > 0) return this.formats.of(metric, unit, buffer, integer);
    return formatFor(this.conductor.window.series.get(metric)?.values ?? [], unit, { integer });
  }

  close(): void {
    for (const stop of this.stops) stop();
    clearInterval(this.forgetTimer);
    clearTimeout(this.refetchTimer);
    clearTimeout(this.noticeTimer);
    this.feed.close();
    this.next?.close();
    this.conductor.window.close();
    this.conductor.close();
    const record = this.hub.fleet.records.get(this.device);
    if (record !== undefined) record.watchedSince = 0;
  }

  private makeFeed(span_ms: number): Feed {
    const points = span_ms <= SHORT_SPAN_MS ? SHORT_POINTS : LONG_POINTS;
    const feed = new Feed(this.hub.connection, {
      device: this.device,
      metrics: ["*"],
      policy: "every",
      period_ms: PERIOD_MS,
      span_ms,
      points,
    });
    feed.onConflated = (conflated) => this.takeConflated(conflated);
    feed.onSeries = () => {
      this.conductor.changed.value++;
    };
    feed.onChange = () => this.conductor.request();
    feed.onHeard = () => this.hub.fleet.heard(this.device);
    return feed;
  }

  /** Goes over to a feed of this span; the one before is shown until the new one has its history. */
  private follow(span_ms: number): void {
    const current = this.next ?? this.feed;
    if (current.options.span_ms === span_ms) return;
    this.next?.close();
    this.next = null;
    if (this.feed.options.span_ms === span_ms) return;
    const next = this.makeFeed(span_ms);
    this.next = next;
    next.onLive = () => {
      next.onLive = () => this.conductor.request();
      this.feed.close();
      this.feed = next;
      this.next = null;
      this.conductor.feed = next;
      this.conductor.changed.value++;
      this.conductor.request();
    };
  }

  private forget(): void {
    const before = this.conductor.now() - this.feed.options.span_ms * 1.2;
    if (this.conductor.view.peek().mode === "live") this.feed.dropBefore(before);
  }

  private async loadEvents(): Promise<void> {
    try {
      this.events.value = await fetchEvents(this.device, EVENTS);
    } catch {
      // Without events, gaps have no reason to tell; all else works.
    }
  }

  private takeConflated(conflated: Conflated): void {
    const before = this.conflated;
    this.conflated =
      before === null
        ? conflated
        : {
            from: Math.min(before.from, conflated.from),
            to: Math.max(before.to, conflated.to),
            readings: before.readings + conflated.readings,
          };
    this.notice.value = { readings: this.conflated.readings, fetched: false };
    clearTimeout(this.refetchTimer);
    clearTimeout(this.noticeTimer);
    this.refetchTimer = window.setTimeout(() => void this.refetch(), REFETCH_AFTER_MS);
  }

  /** Fetches what was summarised, and puts it where it belongs. */
  private async refetch(): Promise<void> {
    const stretch = this.conflated;
    const feed = this.feed;
    if (stretch === null) return;
    this.conflated = null;
    const metrics = [...feed.series.keys()];
    try {
      const range = { from: stretch.from, to: stretch.to + 1, points: SHORT_POINTS };
      const answer = await fetchHistory(this.device, metrics, range);
      for (const part of answer.series) {
        const held = feed.series.get(part.metric);
        if (held === undefined || part.time_ns.length === 0) continue;
        const window_ = windowOf(part, { from: stretch.from, to: stretch.to, step_ms: 1 });
        const { texts } = window_;
        const values =
          texts === null
            ? window_.values
            : window_.values.map((code) => held.buffer.codeOf(texts[code] ?? ""));
        // The store may be a moment behind: what it does not have yet stays as it came.
        held.buffer.replace(stretch.from, window_.times[window_.times.length - 1], window_.times, values);
      }
      feed.version++;
      this.notice.value = { readings: stretch.readings, fetched: true };
      this.noticeTimer = window.setTimeout(() => {
        this.notice.value = null;
      }, NOTICE_MS);
      this.conductor.request();
    } catch {
      this.conflated = stretch;
      this.refetchTimer = window.setTimeout(() => void this.refetch(), NOTICE_MS);
    }
  }
}

/** The span of the feed that a view needs: the next larger one of the ranges that are offered. */
export function feedSpan(span_ms: number): number {
  const range = RANGES.find((offered) => offered.span_ms >= span_ms * 0.999);
  return range?.span_ms ?? Math.ceil(span_ms / 86_400_000) * 86_400_000;
}

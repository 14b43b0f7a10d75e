/** Data of the device page: the feed for the shown span, history, events and summarised ranges. */

import { effect, type Signal, signal, untracked } from "@preact/signals";
import { mergeColumns, recodeTexts } from "../../chart/chart_series";
import { FrameScheduler } from "../../chart/frame_scheduler";
import { restartsIn } from "../../chart/intervals";
import { rangeOfAtLeast, spanOf, type TimeView } from "../../chart/time_view";
import { fetchEvents, fetchHistory, fetchPresence } from "../../data/api";
import { type Conflated, Feed } from "../../data/feed";
import { offlineSince } from "../../data/fleet";
import { HistoryWindow, toWindowSeries } from "../../data/history_window";
import type { Hub } from "../../data/hub";
import type { MetricDetails } from "../../data/metrics";
import { isState, type MetricHead } from "../../data/metrics";
import { FormatCache, formatFor, type NumberFormat } from "../../data/number_format";
import type { Columns } from "../../data/series_buffer";
import { DAY } from "../../data/time";
import type { EventDetails, PresenceInterval } from "../../wire/api";
import type { DeviceState } from "../../wire/live";
import { DeviceCommands } from "./command_data";
import { DeviceSettings } from "./setting_data";

/** Shorter spans show every reading, up to 13 per second for five minutes. */
const SHORT_SPAN_MS = 15 * 60_000;
const SHORT_POINTS = 4000;
const LONG_POINTS = 3000;
const PERIOD_MS = 100;
/** Summarised ranges are requested again after the connection has been fast for this long. */
const REFETCH_AFTER_MS = 1500;
/** The notice stays visible for this long after the readings were loaded. */
const NOTICE_MS = 6000;
const EVENTS = 100;
/** Interval at which readings older than the feed's span are removed. */
const DROP_EVERY_MS = 10_000;

export interface Notice {
  readings: number;
  fetched: boolean;
}

export class DeviceData {
  readonly scheduler: FrameScheduler;
  readonly events: Signal<EventDetails[]> = signal([]);
  /** The connection timeline, newest first. */
  readonly presence: Signal<PresenceInterval[]> = signal([]);
  readonly commands: DeviceCommands;
  readonly settings: DeviceSettings;
  readonly notice: Signal<Notice | null> = signal(null);
  /** True after the first data have arrived. */
  readonly ready = signal(false);
  readonly formats = new FormatCache();
  private readonly hub: Hub;
  private readonly device: string;
  private next: Feed | null = null;
  private conflated: Conflated | null = null;
  private eventsKey = "";
  private refetchTimer = 0;
  private noticeTimer = 0;
  private readonly dropTimer: number;
  private readonly disposers: (() => void)[];

  constructor(hub: Hub, device: string, view: Signal<TimeView>) {
    this.hub = hub;
    this.device = device;
    observed.set(device, this);
    const isConnected = () => hub.fleet.get(device)?.state.peek().connected ?? false;
    this.commands = new DeviceCommands(device, isConnected);
    this.settings = new DeviceSettings(device, isConnected);
    const feed = this.createFeed(feedSpan(spanOf(view.peek())));
    this.scheduler = new FrameScheduler(device, view, feed, new HistoryWindow(device));
    feed.onLive = () => {
      this.ready.value = true;
      this.scheduler.requestFrame();
    };
    this.dropTimer = window.setInterval(() => this.dropOldReadings(), DROP_EVERY_MS);
    this.disposers = [
      effect(() => {
        const shown = view.value;
        if (shown.mode === "live") this.switchFeed(feedSpan(shown.span_ms));
        this.scheduler.requestFrame();
      }),
      effect(() => {
        void hub.fleet.version.value;
        const state = hub.fleet.get(device)?.state.value;
        const connection = hub.connection.status.value.state;
        untracked(() => this.followDevice(state, connection === "live"));
      }),
    ];
  }

  private get feed(): Feed {
    return this.scheduler.feed;
  }

  /** Apply the clock offset and the time of the disconnection, and load the events after a change: of the connection, a source, or what the agent reports. */
  private followDevice(state: DeviceState | undefined, isLive: boolean): void {
    const ahead_ns = state?.clock_offset_ns ?? 0;
    // An offset within its error is noise. Beyond it, the newest readings carry the device's time.
    const significant = Math.abs(ahead_ns) > Math.max(state?.clock_error_ns ?? 0, 1e9);
    this.scheduler.clockAhead_ms = significant ? ahead_ns / 1e6 : 0;
    const offline = state === undefined ? null : offlineSince(state);
    this.scheduler.offlineSince = offline === null ? null : offline + this.scheduler.clockAhead_ms;
    this.scheduler.requestFrame();
    const sources = (state?.sources ?? []).map(({ name, ok }) => `${name} ${ok}`);
    const key = `${state?.since} ${state?.connected} ${state?.presence} ${state?.events} ${sources}`;
    if (!isLive || key === this.eventsKey) return;
    this.eventsKey = key;
    void this.loadEvents();
    this.commands.follower.refresh();
    this.settings.follower.refresh();
  }

  /** Return the readings of a metric for the charts: those of the feed and, in the past, the hub's answer. */
  columnsOf(metric: string): Columns {
    const buffer = this.feed.bufferOf(metric);
    const window = this.scheduler.window.series.get(metric);
    return mergeColumns(buffer, window && recodeTexts(buffer, window));
  }

  /** Return the number format of a metric: from its live readings, or from the shown history without any. */
  formatOf({ metric, unit, type }: MetricHead): NumberFormat {
    const integer = type === "integer";
    const buffer = this.feed.bufferOf(metric);
    if (buffer.length > 0) return this.formats.get(metric, unit, buffer, integer);
    return formatFor(this.scheduler.window.series.get(metric)?.values ?? [], unit, { integer });
  }

  /** Return the time of the newest reading of a metric by the hub's clock in milliseconds; 0: unknown. */
  lastReading({ metric, latest }: MetricHead & Partial<Pick<MetricDetails, "latest">>): number {
    const last = Math.max(this.feed.series.get(metric)?.buffer.lastTime ?? 0, (latest?.time_ns ?? 0) / 1e6);
    return last === 0 ? 0 : last - this.scheduler.clockAhead_ms;
  }

  close(): void {
    if (observed.get(this.device) === this) observed.delete(this.device);
    for (const stop of this.disposers) stop();
    this.commands.follower.close();
    this.settings.follower.close();
    clearInterval(this.dropTimer);
    clearTimeout(this.refetchTimer);
    clearTimeout(this.noticeTimer);
    this.feed.close();
    this.next?.close();
    this.scheduler.window.close();
    this.scheduler.close();
  }

  private createFeed(span_ms: number): Feed {
    const points = span_ms <= SHORT_SPAN_MS ? SHORT_POINTS : LONG_POINTS;
    const feed = new Feed(this.hub.connection, {
      device: this.device,
      metrics: ["*"],
      policy: "every",
      period_ms: PERIOD_MS,
      span_ms,
      points,
    });
    feed.onConflated = (conflated) => this.addConflated(conflated);
    feed.onSeries = () => {
      this.scheduler.seriesVersion.value++;
    };
    feed.onDescribed = () => this.hub.fleet.requestMetrics(this.device);
    feed.onChange = () => this.scheduler.requestFrame();
    feed.onReading = () => this.hub.fleet.recordReading(this.device);
    return feed;
  }

  /** Switch to a feed with this span. The previous feed is shown until the new one has its history. */
  private switchFeed(span_ms: number): void {
    const current = this.next ?? this.feed;
    if (current.options.span_ms === span_ms) return;
    this.next?.close();
    this.next = null;
    if (this.feed.options.span_ms === span_ms) return;
    const next = this.createFeed(span_ms);
    this.next = next;
    next.onLive = () => {
      next.onLive = () => this.scheduler.requestFrame();
      this.feed.close();
      this.next = null;
      this.scheduler.feed = next;
      this.scheduler.seriesVersion.value++;
      this.scheduler.requestFrame();
    };
  }

  private dropOldReadings(): void {
    const before = this.scheduler.now() - this.feed.options.span_ms * 1.2;
    if (this.scheduler.view.peek().mode === "live") this.feed.dropBefore(before);
  }

  private async loadEvents(): Promise<void> {
    try {
      this.events.value = await fetchEvents(this.device, EVENTS);
      this.scheduler.restarts = restartsIn(this.events.value);
      this.presence.value = await fetchPresence(this.device);
      this.scheduler.requestFrame();
    } catch {
      // Without events, gaps have no explanation; everything else works.
    }
  }

  private addConflated(conflated: Conflated): void {
    const before = this.conflated;
    this.conflated = {
      from: Math.min(before?.from ?? conflated.from, conflated.from),
      to: Math.max(before?.to ?? conflated.to, conflated.to),
      readings: (before?.readings ?? 0) + conflated.readings,
    };
    this.notice.value = { readings: this.conflated.readings, fetched: false };
    clearTimeout(this.refetchTimer);
    clearTimeout(this.noticeTimer);
    this.refetchTimer = window.setTimeout(() => void this.refetch(), REFETCH_AFTER_MS);
  }

  /** Load the summarised readings and insert them. */
  private async refetch(): Promise<void> {
    const { conflated, feed } = this;
    if (conflated === null) return;
    this.conflated = null;
    const { from, to, readings } = conflated;
    try {
      const range = { from, to: to + 1, points: SHORT_POINTS };
      const answer = await fetchHistory(this.device, [...feed.series.keys()], range);
      for (const series of answer.series) {
        const known = feed.series.get(series.metric);
        // Readings of an earlier type are a second part of the answer.
        if (
          known === undefined ||
          series.time_ns.length === 0 ||
          isState(series.type) !== isState(known.info.type ?? "float")
        )
          continue;
        const { buffer } = known;
        const { times, values } = recodeTexts(buffer, toWindowSeries(series, { from, to, step_ms: 1 }));
        // The store may lag behind the journal: newer readings stay unchanged.
        buffer.replace(from, times[times.length - 1], times, values);
      }
      feed.recordChange();
      this.notice.value = { readings, fetched: true };
      this.noticeTimer = window.setTimeout(() => {
        this.notice.value = null;
      }, NOTICE_MS);
      this.scheduler.requestFrame();
    } catch {
      this.conflated = conflated;
      this.refetchTimer = window.setTimeout(() => void this.refetch(), NOTICE_MS);
    }
  }
}

/** Return the span of the feed for a view: the next larger offered range, or whole days. */
function feedSpan(span_ms: number): number {
  return rangeOfAtLeast(span_ms)?.span_ms ?? Math.ceil(span_ms / DAY) * DAY;
}

/** Data of the open device pages, for the test hook. */
const observed = new Map<string, DeviceData>();

/**
 * Test hook: `window.__hub.series(device, metric)` returns the readings of a metric on the open device page, or
 * null. It is read-only.
 */
interface ShownReadings {
  times_ms: number[];
  /** Numbers, texts of string metrics, 1 and 0 for booleans, null for no value. */
  values: (number | string | null)[];
}

declare global {
  interface Window {
    __hub?: { series(device: string, metric: string): ShownReadings | null };
  }
}

export function exposeTestHook(): void {
  window.__hub = {
    series(device, metric) {
      const data = observed.get(device);
      const series = data?.scheduler.feed.series.get(metric);
      if (data === undefined || series === undefined) return null;
      const columns = data.columnsOf(metric);
      return {
        times_ms: Array.from(columns.times),
        values: Array.from(columns.values, (value) => {
          if (Number.isNaN(value)) return null;
          if (series.info.type === "string") return series.buffer.textOf(value);
          return value;
        }),
      };
    },
  };
}

/** The fleet as the page knows it: every device's state as the hub tells it, and its metrics. */

import { type Signal, signal } from "@preact/signals";
import type { DeviceState } from "../wire/live";
import { type DeviceInfo, fetchDevice, fetchDevices, type MetricInfo } from "./api";
import { hubNow } from "./hub_clock";

export interface DeviceRecord {
  readonly device: string;
  readonly state: Signal<DeviceState>;
  /** null until the hub has told them. */
  readonly metrics: Signal<MetricInfo[] | null>;
  /** When a reading of it reached this page or, before that, the hub; by the hub's clock in milliseconds, 0: never. */
  heard: number;
  /** Since when this page receives its readings, so that silence can be told; 0: it does not. */
  watchedSince: number;
  /** When the hub last told its newest reading, by the hub's clock in milliseconds; 0: never. */
  told: number;
  /** Its usual time between readings, as far as this page has heard; null: not known. */
  interval_ms: number | null;
}

export type Condition = "online" | "silent" | "offline";

/** A connected device is silent after some of its usual intervals without a reading, but not sooner than … */
export const SILENT_AFTER_MS = 60_000;
/** … and after this long while its usual interval is not known: many sensors report every few minutes. */
export const SILENT_WHEN_UNKNOWN_MS = 10 * 60_000;
const SILENT_INTERVALS = 5;
/** More devices than this whose metrics are not known are asked for in one request. */
const ONE_BY_ONE = 8;
/** A device that has just connected tells its metrics in the same moment; they are asked for a little later. */
const METRICS_AFTER_MS = 400;

export class FleetStore {
  /** Those in service. */
  readonly records = new Map<string, DeviceRecord>();
  /** Those that are not, as far as somebody looks at them. */
  private readonly retired = new Map<string, DeviceRecord>();
  /** Counts devices that come or go, and changes of their state. */
  readonly version = signal(0);
  readonly loaded = signal(false);
  private readonly unknown = new Set<string>();
  private timer = 0;

  /** Asks the hub for all there is. Throws ApiError. */
  async load(): Promise<void> {
    for (const info of await fetchDevices()) this.takeInfo(info);
    this.loaded.value = true;
    this.version.value++;
  }

  /** The whole fleet, as the live connection tells it. */
  fleet(states: DeviceState[]): void {
    const present = new Set(states.map((state) => state.device));
    for (const device of this.records.keys()) if (!present.has(device)) this.records.delete(device);
    for (const state of states) this.takeState(state);
    this.loaded.value = true;
    this.version.value++;
  }

  device(state: DeviceState): void {
    const before = this.records.get(state.device)?.state.peek();
    this.takeState(state);
    // With a new connection a device may have declared other metrics.
    if (state.connected && before !== undefined && before.since !== state.since)
      this.askMetrics(state.device);
    this.version.value++;
  }

  /** The device, in service or not, as far as it is known here. */
  known(device: string): DeviceRecord | undefined {
    return this.records.get(device) ?? this.retired.get(device);
  }

  /** A reading of a device has reached the page. */
  heard(device: string): void {
    const record = this.records.get(device);
    if (record === undefined) return;
    const now = hubNow();
    const interval = now - record.heard;
    if (record.heard > 0 && record.watchedSince > 0 && record.heard >= record.watchedSince)
      record.interval_ms = record.interval_ms === null ? interval : record.interval_ms * 0.8 + interval * 0.2;
    record.heard = now;
  }

  /** The device, asked for when it is not known yet; null when the hub does not know it either. Throws ApiError. */
  async find(device: string): Promise<DeviceRecord> {
    const known = this.known(device);
    if (known?.metrics.peek()) return known;
    return this.takeInfo(await fetchDevice(device));
  }

  askMetrics(device: string): void {
    this.unknown.add(device);
    clearTimeout(this.timer);
    this.timer = window.setTimeout(() => void this.fetchUnknown(), METRICS_AFTER_MS);
  }

  private async fetchUnknown(): Promise<void> {
    const devices = [...this.unknown];
    this.unknown.clear();
    try {
      if (devices.length > ONE_BY_ONE) for (const info of await fetchDevices()) this.takeInfo(info);
      else for (const info of await Promise.all(devices.map(fetchDevice))) this.takeInfo(info);
      this.version.value++;
    } catch {
      // The hub is away just now: the next connection brings the fleet anew.
    }
  }

  private takeInfo({ metrics, ...state }: DeviceInfo): DeviceRecord {
    const record = this.takeState(state);
    record.metrics.value = metrics;
    const newest = metrics.reduce((latest, { latest: at }) => Math.max(latest, (at?.time_ns ?? 0) / 1e6), 0);
    record.heard = Math.max(record.heard, Math.min(newest, hubNow()));
    record.told = hubNow();
    return record;
  }

  private takeState(state: DeviceState): DeviceRecord {
    let record = this.known(state.device);
    if (record === undefined) {
      record = {
        device: state.device,
        state: signal(state),
        metrics: signal(null),
        heard: 0,
        watchedSince: 0,
        told: 0,
        interval_ms: null,
      };
      if (this.loaded.peek()) this.askMetrics(state.device);
    } else record.state.value = state;
    const [to, from] = state.retired ? [this.retired, this.records] : [this.records, this.retired];
    from.delete(state.device);
    to.set(state.device, record);
    record.heard = Math.max(record.heard, (state.seen ?? 0) / 1e6);
    return record;
  }
}

/** What a device's state is, in a word. A device is silent only when this page would know of its readings. */
export function conditionOf(record: DeviceRecord, now: number): Condition {
  const state = record.state.value;
  if (!state.connected) return "offline";
  const limit =
    record.interval_ms === null
      ? SILENT_WHEN_UNKNOWN_MS
      : Math.max(SILENT_AFTER_MS, SILENT_INTERVALS * record.interval_ms);
  const last = Math.max(record.heard, (state.since ?? 0) / 1e6);
  const watched = record.watchedSince > 0 && now - Math.max(last, record.watchedSince) > limit;
  const told = record.told - last > limit;
  return watched || told ? "silent" : "online";
}

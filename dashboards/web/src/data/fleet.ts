/** The devices of the fleet: the state of each device as the hub reports it, and its metrics. */

import { type Signal, signal } from "@preact/signals";
import type { DeviceDetails, DeviceMetric } from "../wire/api";
import type { DeviceState, FleetProgress, SourceState } from "../wire/live";
import { fetchDevice, fetchDevices, fetchRetiredDevices, hasRetiredDevices } from "./api";
import { hubNow, MINUTE } from "./time";

export interface DeviceRecord {
  readonly device: string;
  readonly state: Signal<DeviceState>;
  /** null until the hub has sent them. */
  readonly metrics: Signal<DeviceMetric[] | null>;
  /** When its newest reading reached this page or the hub, by the hub's clock in milliseconds; 0: never. */
  lastReading_ms: number;
  /** Time of its newest reading while it is not connected, in milliseconds: it may be imported; 0: unknown. */
  newest_ms: number;
  /** What the hub had received, as `lastReading_ms`, when it knew no reading: it was refused, or is old; 0: it knows one. */
  withoutReading_ms: number;
}

/** Compare device names; numbers in them are compared as numbers. */
export const compareNames = new Intl.Collator("en", { numeric: true }).compare;

export type Condition = "online" | "reconnecting" | "silent" | "offline" | "unconnected";

/** Which devices the fleet shows: those in a condition, with a stale metric, or out of service. */
export type FleetFilter = Condition | "stale" | "retired";

/** Filters of the fleet, by their names in the address: the hub's names of the states. */
const FILTERS = new Map<string, FleetFilter>([
  ["connected", "online"],
  ...(["silent", "reconnecting", "offline", "unconnected", "stale", "retired"] as const).map(
    (filter) => [filter, filter] as const,
  ),
]);

/** Return the filter that the query of an address names; null for all devices. */
export function filterOf(query: string): FleetFilter | null {
  return FILTERS.get(new URLSearchParams(query).get("state") ?? "") ?? null;
}

/** Return a query with another filter, without its question mark. */
export function queryWith(query: string, filter: FleetFilter | null): string {
  const changed = new URLSearchParams(query);
  const name = [...FILTERS].find(([, known]) => known === filter)?.[0];
  if (name === undefined) changed.delete("state");
  else changed.set("state", name);
  return changed.toString();
}

/** Return whether a metric of the device is stale. */
export function hasStaleMetric(record: DeviceRecord): boolean {
  return (record.state.peek().stale ?? []).length > 0;
}

/** For more devices than this, one request of the whole list replaces single requests. */
const MAX_SINGLE_REQUESTS = 8;
/** A new device declares its metrics right after it connects, so the request waits. */
const METRICS_AFTER_MS = 400;

export class FleetStore {
  /** Devices in service. */
  readonly records = new Map<string, DeviceRecord>();
  /** Retired devices that the page has shown, or loaded. */
  readonly retired = new Map<string, DeviceRecord>();
  /** Counts changes of the list and of device states. */
  readonly version = signal(0);
  readonly loaded = signal(false);
  /** Whether the hub has retired devices, as far as the page has asked. */
  readonly hasRetired = signal(false);
  private readonly unknown = new Set<string>();
  private timer = 0;
  /** The live connection has sent the fleet. */
  private isLive = false;

  /** Load the whole list from the hub. Throws ApiError. */
  async load(): Promise<void> {
    for (const info of await fetchDevices()) this.updateInfo(info);
    this.loaded.value = true;
    this.version.value++;
  }

  /** Ask the hub whether it has retired devices. Throws ApiError. */
  async checkRetired(): Promise<void> {
    this.hasRetired.value = await hasRetiredDevices();
  }

  /** Load the retired devices. Throws ApiError. */
  async loadRetired(): Promise<void> {
    for (const info of await fetchRetiredDevices()) this.updateInfo(info);
    this.hasRetired.value = this.retired.size > 0;
    this.version.value++;
  }

  /** Replace the fleet by the list from the live connection. */
  receiveFleet(states: DeviceState[]): void {
    const present = new Set(states.map((state) => state.device));
    for (const device of this.records.keys()) if (!present.has(device)) this.records.delete(device);
    for (const state of states) this.updateState(state);
    this.isLive = true;
    this.loaded.value = true;
    this.version.value++;
  }

  /** Update the devices whose state changed. */
  receiveDevices(states: DeviceState[]): void {
    for (const state of states) {
      const before = this.records.get(state.device)?.state.peek();
      this.updateState(state);
      // A device may declare other metrics on a new connection, and has other newest readings at its end.
      const isStaleOther = (before?.stale ?? []).join() !== (state.stale ?? []).join();
      if (before !== undefined && (before.since !== state.since || isStaleOther)) this.requestMetrics(state.device);
    }
    this.version.value++;
  }

  /** Update the numbers of the devices that progressed. */
  receiveProgress({ devices, acked, backlog, seen }: FleetProgress): void {
    for (const [position, device] of devices.entries()) {
      const record = this.records.get(device);
      if (record === undefined) continue; // its state follows, or it is retired
      record.state.value = {
        ...record.state.peek(),
        acked: acked[position],
        backlog: backlog[position],
        seen: seen[position],
      };
      record.lastReading_ms = Math.max(record.lastReading_ms, seen[position] / 1e6);
      // An import may have brought older or newer readings.
      if (!record.state.peek().connected) this.requestMetrics(device);
    }
    this.version.value++;
  }

  /** Return the device if it is known here, in service or retired. */
  get(device: string): DeviceRecord | undefined {
    return this.records.get(device) ?? this.retired.get(device);
  }

  /** Record that a reading of the device has reached the page. */
  recordReading(device: string): void {
    const record = this.records.get(device);
    if (record === undefined) return;
    record.lastReading_ms = hubNow();
  }

  /** Load a device from the hub. Throws ApiError. */
  async fetch(device: string): Promise<void> {
    this.updateInfo(await fetchDevice(device));
    this.version.value++;
  }

  requestMetrics(device: string): void {
    this.unknown.add(device);
    clearTimeout(this.timer);
    this.timer = window.setTimeout(() => void this.fetchUnknown(), METRICS_AFTER_MS);
  }

  private async fetchUnknown(): Promise<void> {
    const devices = [...this.unknown];
    this.unknown.clear();
    try {
      if (devices.length > MAX_SINGLE_REQUESTS) for (const info of await fetchDevices()) this.updateInfo(info);
      else for (const info of await Promise.all(devices.map(fetchDevice))) this.updateInfo(info);
      this.version.value++;
    } catch {
      // The hub is unavailable. The next connection sends the fleet again.
    }
  }

  /** Apply an answer of the API. A live state is at least as new: an answer may arrive after later messages. */
  private updateInfo({ metrics, ...state }: DeviceDetails): void {
    const known = this.isLive ? this.get(state.device) : undefined;
    const record = known ?? this.updateState(state);
    record.metrics.value = metrics;
    const newest = metrics.reduce((latest, { latest: at }) => Math.max(latest, (at?.time_ns ?? 0) / 1e6), 0);
    record.lastReading_ms = Math.max(record.lastReading_ms, Math.min(newest, hubNow()));
    if (!record.state.peek().connected) record.newest_ms = Math.min(newest, hubNow());
    record.withoutReading_ms = newest === 0 ? (state.seen ?? 0) / 1e6 : 0;
  }

  private updateState(state: DeviceState): DeviceRecord {
    let record = this.get(state.device);
    if (record === undefined) {
      record = {
        device: state.device,
        state: signal(state),
        metrics: signal(null),
        lastReading_ms: 0,
        newest_ms: 0,
        withoutReading_ms: 0,
      };
      if (this.loaded.peek()) this.requestMetrics(state.device);
    } else record.state.value = state;
    const [to, from] = state.retired ? [this.retired, this.records] : [this.records, this.retired];
    if (state.connected) record.newest_ms = 0;
    from.delete(state.device);
    to.set(state.device, record);
    if (state.retired) this.hasRetired.value = true;
    record.lastReading_ms = Math.max(record.lastReading_ms, (state.seen ?? 0) / 1e6);
    return record;
  }
}

/** Return when the device went offline, by the hub's clock in milliseconds; null while it is connected or if unknown. */
export function offlineSince({ connected, since }: DeviceState): number | null {
  return connected || (since ?? 0) === 0 ? null : (since ?? 0) / 1e6;
}

/**
 * Return the time of a device's last reading in milliseconds; 0: never, or unknown. Of a device that is not connected it is the
 * reading's own time: readings of the past that were imported are no recent ones.
 */
export function lastReading({ newest_ms, lastReading_ms, withoutReading_ms }: DeviceRecord): number {
  if (lastReading_ms <= withoutReading_ms) return 0;
  return newest_ms > 0 ? newest_ms : lastReading_ms;
}

/**
 * Return when the hub received the last batch of a device, in milliseconds; null if its last reading is as recent.
 * Imported readings are older than their arrival. `hub device list` has both times under the same names.
 */
export function lastSeen(record: DeviceRecord): number | null {
  const seen_ms = (record.state.value.seen ?? 0) / 1e6;
  return seen_ms - lastReading(record) > MINUTE ? seen_ms : null;
}

/** Return whether an agent of the device has ever connected. If none has, its readings were imported, or it has none. */
export function hasConnected({ connected, agent }: DeviceState): boolean {
  return connected || (agent ?? "") !== "";
}

/** Return the sources of a device that do not work. */
export function failedSources(state: DeviceState): SourceState[] {
  return (state.sources ?? []).filter(({ ok }) => !ok);
}

/** Return the condition of a device, as the hub has found it; a retired one is shown as its connection is. */
export function conditionOf(record: DeviceRecord): Condition {
  const state = record.state.value;
  switch (state.presence) {
    case "reconnecting":
    case "silent":
    case "offline":
    case "unconnected":
      return state.presence;
    default:
      if (state.connected) return "online";
      return hasConnected(state) ? "offline" : "unconnected";
  }
}

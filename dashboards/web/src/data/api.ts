/** The HTTP API of the hub, /api/v1, as the page uses it. Times are nanoseconds since 1970 UTC. */

import type { DeviceState, MetricType } from "../wire/live";
import type { TimeRange } from "./time";

export interface HubInfo {
  hub: string;
  name: string;
  version: string;
  journal: string;
  started_ns: number;
  time_ns: number;
  role: Role;
  /** What keeps the hub from its work, by part: a sentence each that says what to do. */
  problems: Record<string, string>;
  /** Whether it has a bridge to an MQTT broker. */
  mqtt: boolean;
}

export type Role = "viewer" | "operator" | "admin" | string;

export interface MetricInfo {
  metric: string;
  type: MetricType;
  unit: string;
  description: string;
  latest: { time_ns: number; value: number | boolean | string | null } | null;
}

export interface DeviceInfo extends DeviceState {
  metrics: MetricInfo[];
}

export interface DeviceEvent {
  time_ns: number;
  kind: string;
  detail: string;
}

/** A part of a list; `next` is the cursor of the part that follows. */
export interface Page {
  next: string | null;
}

export interface SeriesHistory {
  device: string;
  metric: string;
  type: MetricType;
  unit: string;
  resolution: "raw" | "reduced";
  time_ns: number[];
  values: (number | boolean | string | null)[];
}

export interface History {
  offset: number;
  series: SeriesHistory[];
}

/** What became of accepted readings: accepted = stored + waiting + refused + expired. Null where it is not known. */
export interface Balance {
  stored: number | null;
  waiting: number | null;
  refused: number | null;
  expired: number | null;
  difference: number | null;
}

export interface Books extends Balance {
  accepted: number;
  accepted_batches: number;
  duplicate_batches: number;
  quarantined_batches: number;
  lost_batches: number;
}

export interface Flow {
  journal: { id: string; first_offset: number; last_offset: number; size_bytes: number };
  consumers: (Balance & { name: string; offset: number; lag: number })[];
  store: { phase: "opening" | "running" | "waiting"; since_ns: number; error: string | null; missed: number };
  totals: Books;
  devices: (Books & { device: string })[];
}

/** A bridge to an MQTT broker; counts are of messages since the hub started. Null: it does nothing of that kind. */
export interface Bridge {
  name: string;
  address: string;
  /** "5" or "3.1.1"; empty before the first connection. */
  version: string;
  phase: "connecting" | "connected" | "waiting";
  since_ns: number;
  last_error: string | null;
  inward: {
    received: number;
    taken: number;
    undecodable: number;
    retained: number;
    own: number;
    copies: number;
    /** Readings, as the next. */
    accepted: number;
    duplicates: number;
  } | null;
  outward: {
    published: number;
    acknowledged: number;
    in_flight: number;
    /** Entries of the journal, as the lag. */
    passed_over: number;
    offset: number;
    lag: number;
    too_large: number;
    refused: number;
    /** Entries that the journal had deleted, or that cannot be decoded any more. */
    missed: number;
  } | null;
  /** Of a Sparkplug host application: what was late, asked for again or left out, by reason. */
  sparkplug: Record<string, number> | null;
}

export interface Bridges {
  time_ns: number;
  bridges: Bridge[];
}

/** An error answer of the hub; `detail` is its explanation. Status 0: the hub did not respond. */
export class ApiError extends Error {
  readonly status: number;
  constructor(status: number, detail: string) {
    super(detail);
    this.name = "ApiError";
    this.status = status;
  }
}

const BASE = "/api/v1";

/** Send one API request. Throws ApiError. */
export async function request<T>(
  method: string,
  path: string,
  body?: object,
  signal?: AbortSignal,
): Promise<T> {
  const response = await ask(method, path, body, signal);
  return (response.status === 204 ? undefined : await response.json()) as T;
}

async function ask(method: string, path: string, body?: object, signal?: AbortSignal): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(`${BASE}${path}`, {
      method,
      signal,
      credentials: "same-origin",
      headers: body === undefined ? { accept: "application/json" } : { "content-type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError(0, "The hub does not respond.");
  }
  if (!response.ok) throw new ApiError(response.status, await problemOf(response));
  return response;
}

async function problemOf(response: Response): Promise<string> {
  try {
    const problem = (await response.json()) as { detail?: unknown; title?: unknown };
    for (const text of [problem.detail, problem.title])
      if (typeof text === "string" && text !== "") return text;
  } catch {
    // Not JSON: the status is the explanation.
  }
  return `The hub answered with status ${response.status}.`;
}

/** Convert milliseconds to nanoseconds as digits: a number would lose precision or be written with an exponent. */
export function nanosecondsOf(time_ms: number): string {
  return String(BigInt(Math.round(time_ms * 1000)) * 1000n);
}

export function fetchHub(): Promise<HubInfo> {
  return request("GET", "/hub");
}

/** Load the whole fleet, page by page. */
export async function fetchDevices(): Promise<DeviceInfo[]> {
  const devices: DeviceInfo[] = [];
  let cursor: string | null = null;
  do {
    const query: string = cursor === null ? "" : `?${new URLSearchParams({ cursor })}`;
    const page: Page & { devices: DeviceInfo[] } = await request("GET", `/devices${query}`);
    devices.push(...page.devices);
    cursor = page.next;
  } while (cursor !== null);
  return devices;
}

/** Load the accounting of at most this many devices. Devices that do not balance come first. */
export function fetchFlow(devices: number): Promise<Flow> {
  return request("GET", `/flow?limit=${devices}`);
}

export function fetchBridges(): Promise<Bridges> {
  return request("GET", "/mqtt");
}

export function fetchDevice(device: string): Promise<DeviceInfo> {
  return request("GET", `/devices/${encodeURIComponent(device)}`);
}

/** Take a device out of service. Throws ApiError. */
export function retireDevice(device: string): Promise<void> {
  return request("POST", "/devices/retire", { devices: [device] });
}

export async function fetchEvents(device: string, limit: number): Promise<DeviceEvent[]> {
  const path = `/devices/${encodeURIComponent(device)}/events?limit=${limit}`;
  return (await request<{ events: DeviceEvent[] }>("GET", path)).events;
}

/**
 * Return the path of a history request. With 0 points the hub returns every reading of the range, or rejects the
 * request if there are too many.
 */
export function historyPath(
  device: string,
  metrics: string[],
  { from, to, points, format }: TimeRange & { points: number; format?: "csv" },
): string {
  const query = new URLSearchParams({ device });
  for (const metric of metrics) query.append("metric", metric);
  query.set("from", nanosecondsOf(from));
  query.set("to", nanosecondsOf(to));
  query.set("points", String(Math.round(points)));
  if (format !== undefined) query.set("format", format);
  return `/history?${query}`;
}

export function fetchHistory(
  device: string,
  metrics: string[],
  range: TimeRange & { points: number },
  signal?: AbortSignal,
): Promise<History> {
  return request("GET", historyPath(device, metrics, range), undefined, signal);
}

/** Load every reading of the range as CSV. Throws ApiError, also for an incomplete answer. */
export async function fetchCsv(device: string, metrics: string[], timeRange: TimeRange): Promise<Blob> {
  const response = await ask("GET", historyPath(device, metrics, { ...timeRange, points: 0, format: "csv" }));
  try {
    return await response.blob();
  } catch {
    throw new ApiError(0, "The connection was lost before the download was complete.");
  }
}

export function signIn(token: string): Promise<void> {
  return request("POST", "/session", { token });
}

export function signOut(): Promise<void> {
  return request("DELETE", "/session");
}

export function createToken(body: {
  role: string;
  device?: string;
  devices?: string;
  label: string;
}): Promise<{ token: string; id: string }> {
  return request("POST", "/tokens", body);
}

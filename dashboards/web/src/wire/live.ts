/** Messages of the live protocol, /v1/live, as JSON text frames: the counterpart of wire/live.py. */

import * as limits from "./protocol";
import { CODES, type Code, WireError } from "./protocol";
import * as shape from "./shape";

export const SUBPROTOCOL = "telemetry.live.v1";

export type Policy = "every" | "latest";
export type MetricType = "float" | "integer" | "boolean" | "string";

export interface Cursor {
  journal: string;
  offset: number;
}

export interface History {
  span_ms: number;
  points?: number;
}

export interface Authenticate {
  type: "authenticate";
  token: string;
}

export interface Subscribe {
  type: "subscribe";
  id: number;
  devices: string[];
  metrics: string[];
  policy?: Policy;
  period_ms?: number;
  history?: History | null;
  cursor?: Cursor | null;
}

export interface Unsubscribe {
  type: "unsubscribe";
  id: number;
}

export interface WatchFleet {
  type: "watch_fleet";
}

export interface Ping {
  type: "ping";
  time_ms: number;
}

export type ViewerMessage = Authenticate | Subscribe | Unsubscribe | WatchFleet | Ping;

export interface Welcome {
  type: "welcome";
  hub: string;
  version: string;
  journal: string;
  offset: number;
  time: number;
  role: string;
}

export interface Series {
  device: string;
  metric: string;
  type?: MetricType;
  unit?: string;
  description?: string;
}

export interface Schema {
  type: "schema";
  schema: number;
  first: number;
  series: Series[];
}

export type Start = "snapshot" | "history" | "cursor";

export interface Subscribed {
  type: "subscribed";
  id: number;
  schema: number;
  start: Start;
}

export interface CaughtUp {
  type: "caught_up";
  id: number;
  offset: number;
}

export type ResetReason = "other_journal" | "too_old" | "too_much";

export interface Reset {
  type: "reset";
  id: number;
  reason: ResetReason;
}

/** State of a device in the fleet list. Times are in nanoseconds; 0 means unknown. */
export interface DeviceState {
  type?: "device";
  device: string;
  connected: boolean;
  since?: number;
  seen?: number;
  epoch?: string | null;
  acked?: number;
  backlog?: number;
  agent?: string;
  tags?: Record<string, string>;
  clock_offset_ns?: number | null;
  clock_error_ns?: number | null;
  /** The device is out of service until it sends again. */
  retired?: boolean;
}

export interface Fleet {
  type: "fleet";
  devices: DeviceState[];
}

export interface Pong {
  type: "pong";
  time_ms: number;
}

/** Named LiveError because Error is a JavaScript class; the message type is "error". */
export interface LiveError {
  type: "error";
  code: Code;
  message: string;
  id?: number | null;
}

export type LiveMessage =
  | Welcome
  | Schema
  | Subscribed
  | CaughtUp
  | Reset
  | Fleet
  | (DeviceState & { type: "device" })
  | Pong
  | LiveError;

const { required, optional } = shape;
const subscriptionId = shape.integer(1, 2 ** 31 - 1);
const schemaId = shape.integer(1, 2 ** 32 - 1);
const offset = shape.integer(0, limits.MAX_SEQ);
const time = shape.integer(0, limits.MAX_TIME_NS);
const deviceId = shape.pattern(/^(?!\.\.?$)[A-Za-z0-9_.-]{1,64}$/);
const selectors = shape.list(shape.text(1, limits.MAX_METRIC_NAME), 1, limits.MAX_SELECTORS);
const nanoseconds = shape.nullable(shape.integer(-limits.MAX_TIME_NS, limits.MAX_TIME_NS));
const cursor = shape.object({ journal: required(shape.text(0, 64)), offset: required(offset) });
const history = shape.object({
  span_ms: required(shape.integer(1, limits.MAX_HISTORY_SPAN_MS)),
  points: optional(shape.integer(2, limits.MAX_HISTORY_POINTS)),
});
const series = shape.object({
  device: required(deviceId),
  metric: required(shape.text()),
  type: optional(shape.oneOf("float", "integer", "boolean", "string")),
  unit: optional(shape.text()),
  description: optional(shape.text()),
});
const deviceState: shape.Fields = {
  device: required(deviceId),
  connected: required(shape.boolean),
  since: optional(time),
  seen: optional(time),
  epoch: optional(shape.nullable(shape.pattern(/^[0-9a-f]{16}$/))),
  acked: optional(shape.integer(0, Number.MAX_VALUE)),
  backlog: optional(shape.integer(0, Number.MAX_VALUE)),
  agent: optional(shape.text()),
  tags: optional(shape.dictionary(shape.text())),
  clock_offset_ns: optional(nanoseconds),
  clock_error_ns: optional(nanoseconds),
  retired: optional(shape.boolean),
};

const VIEWER_MESSAGES: Record<ViewerMessage["type"], shape.Fields> = {
  authenticate: { token: required(shape.text(0, limits.MAX_TOKEN)) },
  subscribe: {
    id: required(subscriptionId),
    devices: required(selectors),
    metrics: required(selectors),
    policy: optional(shape.oneOf("every", "latest")),
    period_ms: optional(shape.integer(limits.MIN_PERIOD_MS, limits.MAX_PERIOD_MS)),
    history: optional(shape.nullable(history)),
    cursor: optional(shape.nullable(cursor)),
  },
  unsubscribe: { id: required(subscriptionId) },
  watch_fleet: {},
  ping: { time_ms: required(shape.number) },
};

const LIVE_MESSAGES: Record<LiveMessage["type"], shape.Fields> = {
  welcome: {
    hub: required(shape.text()),
    version: required(shape.text()),
    journal: required(shape.text()),
    offset: required(offset),
    time: required(time),
    role: required(shape.text()),
  },
  schema: {
    schema: required(schemaId),
    first: required(shape.integer(0, Number.MAX_VALUE)),
    series: required(shape.list(series)),
  },
  subscribed: {
    id: required(subscriptionId),
    schema: required(schemaId),
    start: required(shape.oneOf("snapshot", "history", "cursor")),
  },
  caught_up: { id: required(subscriptionId), offset: required(offset) },
  reset: {
    id: required(subscriptionId),
    reason: required(shape.oneOf("other_journal", "too_old", "too_much")),
  },
  fleet: {
    devices: required(shape.list(shape.object({ ...deviceState, type: optional(shape.oneOf("device")) }))),
  },
  device: deviceState,
  pong: { time_ms: required(shape.number) },
  error: {
    code: required(shape.oneOf(...CODES)),
    message: required(shape.text()),
    id: optional(shape.nullable(subscriptionId)),
  },
};

/** Decode a text frame from the hub. Throws WireError("bad_message") for an invalid message. */
export function decodeLiveMessage(frame: string): LiveMessage {
  return decode(frame, LIVE_MESSAGES) as LiveMessage;
}

/** Decode a text frame from a viewer. Throws WireError("bad_message") for an invalid message. */
export function decodeViewerMessage(frame: string): ViewerMessage {
  return decode(frame, VIEWER_MESSAGES) as ViewerMessage;
}

export function encodeMessage(message: ViewerMessage | LiveMessage): string {
  return JSON.stringify(message);
}

function decode(frame: string, messages: Record<string, shape.Fields>): unknown {
  let value: unknown;
  try {
    value = JSON.parse(frame);
  } catch {
    throw new WireError("bad_message", "not JSON");
  }
  if (!shape.isObject(value) || typeof value.type !== "string" || !Object.hasOwn(messages, value.type))
    throw new WireError("bad_message", "unknown message type");
  const { type, ...fields } = value;
  shape.object(messages[type as string])(fields, "$");
  return value;
}

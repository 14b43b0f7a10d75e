/**
 * Messages of the live protocol, /v1/live, as JSON text frames: the counterpart of wire/live.py. The checks of the
 * messages define their types.
 */

import * as protocol from "./protocol";
import { WireError } from "./protocol";
import * as shape from "./shape";

export const SUBPROTOCOL = "telemetry.live.v1";

const { required, optional } = shape;
const subscriptionId = shape.integer(1, 2 ** 31 - 1);
const schemaId = shape.integer(1, 2 ** 32 - 1);
const offset = shape.integer(0, protocol.MAX_SEQ);
const time = shape.integer(0, protocol.MAX_TIME_NS);
const count = shape.integer(0, Number.MAX_VALUE);
const deviceId = shape.pattern(/^(?!\.\.?$)[A-Za-z0-9_.-]{1,64}$/);
const selectors = shape.list(shape.text(1, protocol.MAX_METRIC_NAME), 1, protocol.MAX_SELECTORS);
const nanoseconds = shape.nullable(shape.integer(-protocol.MAX_TIME_NS, protocol.MAX_TIME_NS));
const metricType = shape.oneOf("float", "integer", "boolean", "string");
const start = shape.oneOf("snapshot", "history", "cursor");
const resetReason = shape.oneOf("other_journal", "too_old", "too_much");
const presence = shape.oneOf("connected", "reconnecting", "silent", "offline", "retired", "unconnected");
const cursor = { journal: required(shape.text(0, 64)), offset: required(offset) };
const history = shape.object({
  span_ms: required(shape.integer(1, protocol.MAX_HISTORY_SPAN_MS)),
  points: optional(shape.integer(2, protocol.MAX_HISTORY_POINTS)),
});
const series = {
  device: required(deviceId),
  metric: required(shape.text()),
  type: optional(metricType),
  unit: optional(shape.text()),
  description: optional(shape.text()),
};
const source = {
  name: required(shape.text(1, protocol.MAX_SOURCE_NAME)),
  ok: required(shape.boolean),
  /** By the hub's clock. */
  since: required(time),
  error: optional(shape.text(0, protocol.MAX_SOURCE_ERROR)),
};
const deviceState = {
  device: required(deviceId),
  connected: required(shape.boolean),
  since: optional(time),
  seen: optional(time),
  epoch: optional(shape.nullable(shape.pattern(/^[0-9a-f]{16}$/))),
  acked: optional(count),
  backlog: optional(count),
  agent: optional(shape.text()),
  tags: optional(shape.dictionary(shape.text())),
  clock_offset_ns: optional(nanoseconds),
  clock_error_ns: optional(nanoseconds),
  /** The device is out of service until it sends again. */
  retired: optional(shape.boolean),
  sources: optional(shape.list(shape.object(source), 0, protocol.MAX_SOURCES)),
  source_refused: optional(count),
  events: optional(count),
  presence: optional(shape.nullable(presence)),
  presence_since: optional(time),
  /** Metrics without a reading for several of their usual intervals. */
  stale: optional(shape.list(shape.text(1, protocol.MAX_METRIC_NAME))),
};
const listedState = { ...deviceState, type: optional(shape.oneOf("device")) };

const VIEWER_MESSAGES = {
  authenticate: { token: required(shape.text(0, protocol.MAX_TOKEN)) },
  subscribe: {
    id: required(subscriptionId),
    devices: required(selectors),
    metrics: required(selectors),
    policy: optional(shape.oneOf("every", "latest")),
    period_ms: optional(shape.integer(protocol.MIN_PERIOD_MS, protocol.MAX_PERIOD_MS)),
    history: optional(shape.nullable(history)),
    cursor: optional(shape.nullable(shape.object(cursor))),
  },
  unsubscribe: { id: required(subscriptionId) },
  watch_fleet: { progress: optional(shape.boolean), presence: optional(shape.boolean) },
  ping: { time_ms: required(shape.number) },
};

const LIVE_MESSAGES = {
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
    first: required(count),
    series: required(shape.list(shape.object(series))),
  },
  subscribed: { id: required(subscriptionId), schema: required(schemaId), start: required(start) },
  caught_up: { id: required(subscriptionId), offset: required(offset) },
  reset: { id: required(subscriptionId), reason: required(resetReason) },
  fleet: { devices: required(shape.list(shape.object(listedState))) },
  device: deviceState,
  devices: { devices: required(shape.list(shape.object(listedState))) },
  progress: {
    devices: required(shape.list(deviceId)),
    acked: required(shape.list(count)),
    backlog: required(shape.list(count)),
    seen: required(shape.list(time)),
  },
  pong: { time_ms: required(shape.number) },
  error: {
    code: required(shape.oneOf(...protocol.CODES)),
    message: required(shape.text()),
    id: optional(shape.nullable(subscriptionId)),
  },
};

type MessageTypes<M extends Record<string, shape.Fields>> = {
  [Name in keyof M]: { type: Name } & shape.Infer<M[Name]>;
};
export type ViewerMessage = MessageTypes<typeof VIEWER_MESSAGES>[keyof typeof VIEWER_MESSAGES];
export type LiveMessage = MessageTypes<typeof LIVE_MESSAGES>[keyof typeof LIVE_MESSAGES];
export type Subscribe = MessageTypes<typeof VIEWER_MESSAGES>["subscribe"];
export type Unsubscribe = MessageTypes<typeof VIEWER_MESSAGES>["unsubscribe"];
export type Welcome = MessageTypes<typeof LIVE_MESSAGES>["welcome"];
/** Named LiveError because Error is a JavaScript class; the message type is "error". */
export type LiveError = MessageTypes<typeof LIVE_MESSAGES>["error"];
export type Start = NonNullable<typeof start.type>;
export type ResetReason = NonNullable<typeof resetReason.type>;
export type MetricType = NonNullable<typeof metricType.type>;
export type Policy = NonNullable<Subscribe["policy"]>;
export type Cursor = shape.Infer<typeof cursor>;
export type Series = shape.Infer<typeof series>;
/** New numbers of the devices that progressed, in columns. */
export type FleetProgress = MessageTypes<typeof LIVE_MESSAGES>["progress"];
/** Source that an agent reads, such as a port, and whether it works. */
export type SourceState = shape.Infer<typeof source>;
/** State of a device in the fleet list. Times are in nanoseconds; 0 means unknown. */
export type DeviceState = shape.Infer<typeof listedState>;

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

/**
 * Messages of the device protocol, /v1/device, as JSON text frames: the counterpart of wire/device.py. The page is an
 * agent here: it encodes the messages to the hub and decodes those from it. Times are exact, as bigints.
 */

import { type Encodable, encodeExact, JsonError, JsonObject, type JsonValue, parseExact } from "./exact_json";
import * as protocol from "./protocol";
import { WireError } from "./protocol";
import * as shape from "./shape";

/** Newest first: the hub chooses the first that it knows. */
export const SUBPROTOCOLS = ["telemetry.v1.2.json", "telemetry.v1.1.json", "telemetry.v1.json"];
/** Versions with the message `status`, and with `refused`. */
export const STATUS_SUBPROTOCOLS = SUBPROTOCOLS.slice(0, 2);
export const REFUSED_SUBPROTOCOLS = SUBPROTOCOLS.slice(0, 1);

const { required, optional } = shape;
const seq = shape.integer(1, protocol.MAX_SEQ);
const count = shape.integer(0, protocol.MAX_SEQ);
const milliseconds = shape.integer(0, Number.MAX_SAFE_INTEGER);
const code = shape.oneOf(...protocol.CODES);
const sentence = shape.text(0, 512);

const time: shape.Check<bigint | number> = (value, path) => {
  if (typeof value === "bigint" && value >= 0n && value < 2n ** 63n) return;
  shape.integer(0, Number.MAX_SAFE_INTEGER)(value, path);
};

const refusedColumn = {
  metric: required(shape.text(0, protocol.MAX_METRIC_NAME)),
  code: required(code),
  readings: required(count),
  rows: optional(shape.list(shape.list(count, 2, 2))),
};

const HUB_MESSAGES = {
  welcome: {
    hub: required(shape.text()),
    acked: required(count),
    window: required(shape.integer(1, Number.MAX_SAFE_INTEGER)),
    max_batch_bytes: required(shape.integer(1, Number.MAX_SAFE_INTEGER)),
    time: required(time),
    retry_ms: required(milliseconds),
  },
  ack: { seq: required(seq) },
  reject: {
    seq: required(seq),
    code: required(code),
    message: required(sentence),
    partial: optional(shape.boolean),
    readings: optional(count),
    columns: optional(shape.list(shape.object(refusedColumn))),
  },
  error: {
    code: required(code),
    message: required(sentence),
    expected: optional(shape.nullable(seq)),
    retry_ms: optional(shape.nullable(milliseconds)),
  },
  time_probe: { hub_time: required(time) },
};

type HubMessages = { [Name in keyof typeof HUB_MESSAGES]: { type: Name } & shape.Infer<(typeof HUB_MESSAGES)[Name]> };
export type HubMessage = HubMessages[keyof HubMessages];
export type DeviceWelcome = HubMessages["welcome"];
export type Reject = HubMessages["reject"];
/** Named DeviceError because Error is a JavaScript class; the message type is "error". */
export type DeviceError = HubMessages["error"];

/** Decode a text frame from the hub. Throws WireError("bad_message") for an invalid message. */
export function decodeHubMessage(frame: string): HubMessage {
  let value: unknown;
  try {
    value = plain(parseExact(frame));
  } catch (error) {
    if (error instanceof JsonError) throw new WireError("bad_message", "not JSON");
    throw error;
  }
  if (!shape.isObject(value) || typeof value.type !== "string" || !Object.hasOwn(HUB_MESSAGES, value.type))
    throw new WireError("bad_message", "unknown message type");
  const { type, ...fields } = value;
  shape.object(HUB_MESSAGES[type as HubMessage["type"]] as shape.Fields)(fields, "$");
  return value as HubMessage;
}

function plain(value: JsonValue): unknown {
  if (Array.isArray(value)) return value.map(plain);
  if (!(value instanceof JsonObject)) return value;
  if (value.repeated.length > 0) throw new WireError("bad_message", `two fields are named ${value.repeated[0][0]}`);
  return Object.fromEntries([...value.members].map(([name, member]) => [name, plain(member)]));
}

/** Definition of a metric. A default is left out. */
export type Metric = {
  name: string;
  type?: "integer" | "boolean" | "string";
  unit?: string;
  description?: string;
};

/** State of a source of readings, such as a port: whether it works, since when, and the error if not. */
export type Source = { name: string; ok: boolean; since: bigint; error?: string };

/** Number of lines and values that a source refused for one reason, and the first of them as an example. */
export type SourceRefusal = {
  code: string;
  count: number;
  message: string;
  raw?: string;
  metric?: string;
  value?: string;
  setting?: string;
};

export type Hello = {
  type: "hello";
  device: string;
  epoch: string;
  next_seq: number;
  durable: boolean;
  time: bigint;
  metrics?: Metric[];
  tags?: Record<string, string>;
  agent?: string;
  token?: string;
};

/** Messages to the hub, besides the batches and reports, which a spool keeps encoded; see `numbered`. */
export type AgentMessage =
  | Hello
  | { type: "declare"; metrics: Metric[] }
  | { type: "gap"; from: number; to: number; reason: string }
  | { type: "time_reply"; hub_time: bigint | number; device_time: bigint }
  | { type: "status"; time: bigint; next_seq: number; sources?: Source[]; acked?: number };

export function encodeAgentMessage(message: AgentMessage): string {
  return encodeExact(message);
}

/** Return the fields of a message behind its number, as `numbered` needs them. */
export function encodeBody(fields: { [name: string]: Encodable }): string {
  return encodeExact(fields).slice(1, -1);
}

/** Return the message of a batch or a report of refusals under a number. */
export function numbered(type: "data" | "refused", number: number, body: string): string {
  return `{"type":"${type}","seq":${number},${body}}`;
}

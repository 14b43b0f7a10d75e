/** Frames, records, refusals and rows: the values that the steps of reading hand to each other. As formats/record.py. */

import type { JsonValue } from "../wire/exact_json";

/** Bytes of a frame that a refusal keeps: a person recognises the line. */
export const MAX_RAW_BYTES = 4096;
/** Characters of a refused value that a refusal keeps. */
const MAX_VALUE_SHOWN = 120;
/** Name of a value without a name of its own. */
export const VALUE = "value";

export type MetricType = "float" | "integer" | "boolean" | "string";
/** Value of a reading. A bigint is a whole number beyond 2^53. */
export type Value = number | bigint | boolean | string;
/** Value of a field before it is interpreted. */
export type RawValue = JsonValue;

/** Stable code of a refusal. docs/formats.md has the meaning of each. */
export type RefusalCode =
  | "ambiguous"
  | "cells"
  | "checksum"
  | "depth"
  | "device"
  | "encoding"
  | "format"
  | "limit"
  | "metric"
  | "number"
  | "quote"
  | "size"
  | "syntax"
  | "time"
  | "type"
  | "unit"
  | "version";

/** Input that is refused; the message is a sentence for the sender, and `setting` is the one that changes it. */
abstract class Refused extends Error {
  readonly code: RefusalCode;
  readonly setting: string;
  constructor(code: RefusalCode, reason: string, setting = "") {
    super(reason);
    this.code = code;
    this.setting = setting;
  }
}

/** A frame that its format cannot read. */
export class FrameRefused extends Refused {}

/** One value that cannot be converted. */
export class ValueRefused extends Refused {}

/** The bytes of one line or one message without its end; `line` is the number of its first line, from 1. */
export interface TextFrame {
  line: number;
  raw: Uint8Array;
}

/** A frame or one value that is not a reading. `metric` is empty if the whole frame is refused. */
export interface RefusedInput {
  kind: "refused";
  line: number;
  raw: Uint8Array;
  code: RefusalCode;
  reason: string;
  metric: string;
  value: string;
  setting: string;
}

/** Facts that a format declares about its records; see formats/record.py for each of them. */
export interface Schema {
  units: ReadonlyMap<string, string>;
  types: ReadonlyMap<string, MetricType>;
  metrics: ReadonlyMap<string, string>;
  typed: boolean;
  integers: boolean;
  words: boolean;
  device: string;
  identity: readonly string[];
  timeFormat: string;
}

const NOTHING = new Map<string, never>();

/** Return a schema with these facts; others have their default. */
export function schemaOf(facts: Partial<Schema>): Schema {
  return {
    units: NOTHING,
    types: NOTHING,
    metrics: NOTHING,
    typed: false,
    integers: false,
    words: false,
    device: "",
    identity: [],
    timeFormat: "auto",
    ...facts,
  };
}

/** A value of a record that its format refuses; the neighbours are stored. */
export interface RefusedValue {
  name: string;
  value: RawValue;
  code: RefusalCode;
  reason: string;
}

/**
 * The fields of one record as the format has them. `names` are texts beside the values: tags, a measurement, columns.
 * `time` is the time as it was sent; null: the fields may contain it.
 */
export interface InputRecord {
  kind: "record";
  line: number;
  raw: Uint8Array;
  values: Map<string, RawValue>;
  schema: Schema;
  time: RawValue;
  names: ReadonlyMap<string, string>;
  refused: readonly RefusedValue[];
}

export type Entry = InputRecord | RefusedInput;

/** The readings of one device at one time. `timeNs` null is the time of arrival. */
export interface Row {
  line: number;
  raw: Uint8Array;
  device: string;
  timeNs: bigint | null;
  values: Map<string, Value>;
  isTimeOdd: boolean;
}

/** Return a record of a frame. */
export function recordOf(
  frame: TextFrame,
  values: Map<string, RawValue>,
  schema: Schema,
  rest: Partial<Pick<InputRecord, "time" | "names" | "refused">> = {},
): InputRecord {
  return { kind: "record", ...frame, values, schema, time: null, names: NOTHING, refused: [], ...rest };
}

/** Return the refusal of a second value with the name of another one. */
export function repeatedValue(name: string, value: RawValue): RefusedValue {
  const reason = `the record has another value with the name ${quoted(name.slice(0, 80))}`;
  return { name, value, code: "ambiguous", reason };
}

/** Return the refusal of a whole frame. Throws an error of another kind. */
export function refusalOf({ line, raw }: TextFrame, error: unknown, value = ""): RefusedInput {
  if (!(error instanceof FrameRefused)) throw error;
  const { code, message: reason, setting } = error;
  return { kind: "refused", line, raw: raw.subarray(0, MAX_RAW_BYTES), code, reason, metric: "", value, setting };
}

/** Yield the entries of each frame, and the refusal of a frame behind those that were read of it. */
export function* readEach(frames: readonly TextFrame[], read: (frame: TextFrame) => Iterable<Entry>): Generator<Entry> {
  for (const frame of frames) {
    try {
      yield* read(frame);
    } catch (error) {
      yield refusalOf(frame, error);
    }
  }
}

/** Return a refused value as text of a bounded length. */
export function shown(value: RawValue): string {
  const text = typeof value === "object" && value !== null ? "an object" : String(value);
  return text.length <= MAX_VALUE_SHOWN ? text : `${text.slice(0, MAX_VALUE_SHOWN - 1)}…`;
}

export function quoted(text: string): string {
  return `'${text}'`;
}

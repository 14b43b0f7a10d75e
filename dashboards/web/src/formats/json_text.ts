/** JSON and SenML: objects of values, nested or in lists, one or several in a frame. As json_text.py. */

import { JsonError, JsonObject, type JsonValue, parseExact } from "../wire/exact_json";
import {
  type Entry,
  FrameRefused,
  type InputRecord,
  type MetricType,
  type RawValue,
  type RefusedValue,
  readEach,
  recordOf,
  repeatedValue,
  schemaOf,
  shown,
  type TextFrame,
  VALUE,
} from "./record";

/** Levels of nested JSON. No known device nests deeper, and each level becomes a part of a metric name. */
const MAX_DEPTH = 16;
/** Values of one frame; a larger one would block the page while it is decoded. */
const MAX_VALUES = 10_000;
/** Fields of objects in a list that identify them, before their position does. */
const ITEM_NAMES = ["id", "name", "n", "sensor", "channel", "key", "address"];
/** Supported version of SenML. A newer one must be rejected (RFC 8428, section 4.4). */
const SENML_VERSION = 10;
/** Units of SenML whose symbols differ from the displayed ones. */
const SENML_UNITS: Record<string, string> = {
  Cel: "°C",
  "%RH": "%",
  "%EL": "%",
  Ohm: "Ω",
  deg: "°",
  "/": "",
  count: "",
};
const SENML_VALUES = ["v", "vs", "vb", "vd"];
const SENML_BASE = ["bn", "bt", "bu", "bv", "bs", "bver"];
const SENML_LABELS = new Set([...SENML_BASE, "n", "u", "s", "t", "ut", ...SENML_VALUES]);

const JSON_SCHEMA = schemaOf({ identity: ["device", "device_id"] });
const UTF8 = new TextDecoder("utf-8", { fatal: true });

/** Yield the records of the frames, and their refusals. */
export function readJson(frames: readonly TextFrame[]): Generator<Entry> {
  return readEach(frames, function* (frame) {
    for (const content of documents(frame.raw)) yield* jsonRecords(frame, content);
  });
}

/** Yield a record for each value of the packs in the frames, and their refusals. */
export function readSenml(frames: readonly TextFrame[]): Generator<Entry> {
  return readEach(frames, function* (frame) {
    for (const content of documents(frame.raw)) {
      refuseRepeated(content);
      if (!Array.isArray(content)) throw new FrameRefused("syntax", "SenML is a list of records");
      yield* senmlRecords(frame, content);
    }
  });
}

/** Return the JSON values in a frame: one, or several one behind the other. Throws FrameRefused. */
export function documents(raw: Uint8Array): JsonValue[] {
  let text: string;
  try {
    text = UTF8.decode(raw).replace(/^[\0 \t\r\n]+|[\0 \t\r\n]+$/g, "");
  } catch {
    throw new FrameRefused("syntax", "the frame is not JSON: it is not UTF-8");
  }
  // The first or the last line of a list with an item in each line.
  if (["[", "]", "],", "[,"].includes(text)) return [];
  try {
    return [parse(text)];
  } catch (first) {
    if (!(first instanceof JsonError)) throw first;
    try {
      return splitDocuments(text).map((part) => parse(part, true));
    } catch (error) {
      if (!(error instanceof JsonError)) throw error;
      throw new FrameRefused("syntax", `the frame is not JSON: ${first.message}`);
    }
  }
}

function parse(text: string, hasWords = false): JsonValue {
  try {
    return parseExact(text, hasWords);
  } catch (error) {
    if (error instanceof JsonError && error.isTooDeep) throw tooDeep();
    throw error;
  }
}

/** Return the parts of a text that begin and end with a bracket at the same level; the rest is the last part. */
function splitDocuments(text: string): string[] {
  const parts: string[] = [];
  let depth = 0;
  let start = 0;
  for (const token of text.matchAll(/"(?:[^"\\]|\\.)*"?|[{}[\]]/gs)) {
    if (token[0] === "{" || token[0] === "[") depth++;
    else if (token[0] === "}" || token[0] === "]") {
      depth--;
      if (depth > 0) continue;
      const end = token.index + 1;
      parts.push(text.slice(start, end));
      start = end;
      depth = 0;
    }
  }
  if (/[^\0 \t\r\n,]/.test(text.slice(start))) parts.push(text.slice(start));
  return parts.map((part) => part.replace(/^[\0 \t\r\n,]+/, ""));
}

/** Yield a record for an object, or for each object of a list. Throws FrameRefused. */
function* jsonRecords(frame: TextFrame, content: JsonValue): Generator<InputRecord> {
  if (isSenml(content)) {
    refuseRepeated(content);
    yield* senmlRecords(frame, content);
    return;
  }
  const isList = Array.isArray(content) && content.length > 0 && content.every((item) => item instanceof JsonObject);
  let count = 0;
  for (const item of isList ? content : [content]) {
    const { values, refused } = flatValues(item);
    count += values.size + refused.length;
    if (count > MAX_VALUES) throw new FrameRefused("limit", `a frame has at most ${MAX_VALUES} values`);
    yield recordOf(frame, values, JSON_SCHEMA, { refused });
  }
}

/** Flattener of one object; its result has all values by their joined names, and those whose names occur again. */
class Flattener {
  readonly values = new Map<string, RawValue>();
  readonly refused: RefusedValue[] = [];

  /** Add all values below a name. Nested names are joined by ".", list items are numbered or named by themselves. */
  add(path: string, value: JsonValue, depth: number): void {
    if (value instanceof JsonObject) this.addMembers(`${path}.`, value, depth);
    else if (Array.isArray(value)) this.addItems(path, value, depth);
    else if (this.values.has(path)) this.refused.push(repeatedValue(path, value));
    else this.values.set(path, value);
  }

  addMembers(prefix: string, content: JsonObject, depth: number, skipped = ""): void {
    if (depth > MAX_DEPTH) throw tooDeep();
    for (const [name, inner] of content.members)
      if (skipped === "" || name !== skipped) this.add(`${prefix}${name}`, inner, depth + 1);
    for (const [name, inner] of content.repeated) {
      const again = new Flattener();
      again.add(`${prefix}${name}`, inner, depth + 1);
      this.refused.push(...again.refused);
      for (const [path, value] of again.values) this.refused.push(repeatedValue(path, value));
    }
  }

  private addItems(path: string, items: JsonValue[], depth: number): void {
    if (depth > MAX_DEPTH) throw tooDeep();
    const key = itemName(items);
    items.forEach((inner, position) => {
      if (key !== "" && inner instanceof JsonObject)
        this.addMembers(`${path}.${inner.members.get(key)}.`, inner, depth + 1, key);
      else this.add(`${path}.${position}`, inner, depth + 1);
    });
  }
}

function flatValues(content: JsonValue): Flattener {
  const found = new Flattener();
  if (content instanceof JsonObject) found.addMembers("", content, 1);
  // A value without a name of its own is one of an object with one member.
  else found.add(VALUE, content, 2);
  return found;
}

/** Return the field that identifies each object of a list; "" if there is none and the position has to do it. */
function itemName(items: JsonValue[]): string {
  const objects = items.filter((item) => item instanceof JsonObject);
  if (objects.length === 0 || objects.length < items.length) return "";
  const isName = (value: JsonValue | undefined) =>
    (typeof value === "string" && value !== "") || Number.isInteger(value) || typeof value === "bigint";
  return (
    ITEM_NAMES.find((name) => {
      const found = objects.map(({ members }) => members.get(name));
      return found.every(isName) && new Set(found.map(String)).size === items.length;
    }) ?? ""
  );
}

function tooDeep(): FrameRefused {
  return new FrameRefused("depth", `the JSON has more than ${MAX_DEPTH} levels`);
}

/** Throw FrameRefused if a name occurs again in an object of a JSON value. */
function refuseRepeated(content: JsonValue): void {
  if (content instanceof JsonObject) {
    const [again] = content.repeated;
    if (again !== undefined)
      throw new FrameRefused("ambiguous", `the name '${again[0].slice(0, 80)}' occurs twice in an object`);
    content.members.forEach(refuseRepeated);
  } else if (Array.isArray(content)) content.forEach(refuseRepeated);
}

/** Return whether JSON is a pack of SenML: a list of objects that have its labels only, with a value among them. */
export function isSenml(content: JsonValue): content is JsonValue[] {
  if (!Array.isArray(content) || content.length === 0) return false;
  if (!content.every((item) => item instanceof JsonObject)) return false;
  const labels = new Set(content.flatMap((item) => [...(item as JsonObject).members.keys()]));
  return (
    [...labels].every((label) => SENML_LABELS.has(label) || label.endsWith("_")) &&
    ["n", "bn"].some((label) => labels.has(label)) &&
    [...SENML_VALUES, "s"].some((label) => labels.has(label))
  );
}

/** Yield the records of a pack. Throws FrameRefused. */
function* senmlRecords(frame: TextFrame, pack: JsonValue[]): Generator<InputRecord> {
  if (pack.length > MAX_VALUES) throw new FrameRefused("limit", `a frame has at most ${MAX_VALUES} values`);
  const base = new JsonObject();
  for (const item of pack) {
    if (!(item instanceof JsonObject))
      throw new FrameRefused("syntax", "SenML is a list of records, each of them an object");
    for (const [label, value] of item.members) {
      // A label that ends with "_" changes the meaning of the record (RFC 8428, section 4.4).
      if (label.endsWith("_") && !SENML_LABELS.has(label))
        throw new FrameRefused("version", `the mandatory label '${label.slice(0, 80)}' is not supported`);
      if (SENML_BASE.includes(label)) base.members.set(label, value);
    }
    if (numberOf(base, "bver", SENML_VERSION) > SENML_VERSION)
      throw new FrameRefused("version", `this version of SenML is newer than ${SENML_VERSION}`);
    const record = senmlRecord(frame, item, base);
    if (record !== null) yield record;
  }
}

function senmlRecord(frame: TextFrame, item: JsonObject, base: JsonObject): InputRecord | null {
  const kinds = SENML_VALUES.filter((kind) => item.members.has(kind));
  if (kinds.length > 1) throw new FrameRefused("ambiguous", `a record has more than one value: ${kinds.join(", ")}`);
  const hasSum = item.members.has("s");
  if (kinds.length === 0 && !hasSum) return null;
  const [device, metric] = splitName(textOf(base, "bn"), textOf(item, "n"));
  const values = new Map<string, RawValue>();
  const types = new Map<string, MetricType>();
  const [kind] = kinds;
  if (kind === "v") values.set(metric, numberOf(base, "bv") + numberOf(item, "v"));
  else if (kind === "vb") {
    const value = item.members.get("vb");
    if (typeof value !== "boolean") throw new FrameRefused("type", "vb is neither true nor false");
    values.set(metric, value);
  } else if (kind !== undefined) {
    values.set(metric, textOf(item, kind));
    types.set(metric, "string");
  }
  if (hasSum) values.set(`${metric}.sum`, numberOf(base, "bs") + numberOf(item, "s"));
  const written = textOf(item, "u") || textOf(base, "bu");
  const units = new Map(written === "" ? [] : [[metric, SENML_UNITS[written] ?? written]]);
  const seconds = numberOf(base, "bt") + numberOf(item, "t");
  const schema = schemaOf({ units, types, typed: true, device, timeFormat: "senml" });
  return recordOf(frame, values, schema, { time: seconds === 0 ? null : seconds });
}

/** Return the device's part of a name and the metric's part. */
function splitName(base: string, name: string): [device: string, metric: string] {
  if (base !== "" && name !== "") return [base, name];
  const whole = base || name;
  if (whole === "") throw new FrameRefused("metric", "a record has neither a name nor a base name");
  const at = whole.lastIndexOf("/");
  return at > 0 && at < whole.length - 1 ? [whole.slice(0, at), whole.slice(at + 1)] : [whole, VALUE];
}

function numberOf({ members }: JsonObject, label: string, missing = 0): number {
  const value = members.get(label) ?? missing;
  if (typeof value === "bigint") {
    if (value >= 2n ** 63n || value <= -(2n ** 63n))
      throw new FrameRefused("number", `${label} is outside signed 64 bits`);
    return Number(value);
  }
  if (typeof value !== "number") throw new FrameRefused("type", `${label} is ${shown(value)}, which is not a number`);
  return value;
}

function textOf({ members }: JsonObject, label: string): string {
  const value = members.get(label) ?? "";
  if (typeof value !== "string") throw new FrameRefused("type", `${label} is not a text`);
  return value;
}

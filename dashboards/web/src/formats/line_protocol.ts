/** InfluxDB line protocol, after InfluxDB's reference. As line_protocol.py. */

import { wholeNumber } from "../wire/exact_json";
import { RecordJoiner } from "./framing";
import {
  type Entry,
  FrameRefused,
  type InputRecord,
  quoted,
  type RawValue,
  type RefusedValue,
  readEach,
  recordOf,
  refusalOf,
  repeatedValue,
  type Schema,
  schemaOf,
  shown,
  type TextFrame,
} from "./record";

/** Name of the measurement in a record; tags keep their names. */
export const MEASUREMENT = "measurement";

/** Tag with the computer that collects, which Telegraf adds to every line: `device` is then a disk, say. */
const HOST = "host";
const IDENTITY = ["device", "device_id", HOST, "hostname"];
const HOST_IDENTITY = [HOST, ...IDENTITY.filter((name) => name !== HOST)];

const NAME = String.raw`(?:[^, \t\n\r=\\]|\\.)+`;
const FIELD = String.raw`${NAME}=(?:"(?:[^"\\]|\\.)*"|[^\s,"]+)`;
const LINE = new RegExp(`^${NAME}(?:,${NAME}=${NAME})* +${FIELD}(?:,${FIELD})*(?: +-?[0-9]{1,19})?$`, "u");
const POINT = new RegExp(String.raw`^((?:[^ \\]|\\.)+) +(${FIELD}(?:,${FIELD})*)(?: +(-?[0-9]{1,19}))?$`, "su");
const FIELD_PARTS = new RegExp(String.raw`(${NAME})=("(?:[^"\\]|\\.)*"|[^\s,"]+)`, "gsu");
const HEAD = new RegExp(String.raw`^((?:[^, \t\n\r\\]|\\.)+)((?:,${NAME}=${NAME})*)$`, "su");
const TAG = new RegExp(`,(${NAME})=(${NAME})`, "gsu");
const FIELD_VALUE = /=([^\s,"=]+)(?=[, ]|$)/g;
const NUMBER = /^(?:[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[iu]?|t|f|true|false)$/i;
const NAN = /^[+-]?(?:nan|inf(?:inity)?)$/i;
const TRUTHS: Record<string, boolean> = { t: true, true: true, f: false, false: false };
const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Return whether a text has the form of line protocol, with a number, a boolean or a quoted text as its values. */
export function looksLikeLine(text: string): boolean {
  if (!LINE.test(text)) return false;
  const at = text.search(/(?<!\\) +/);
  return [...text.slice(at).trimStart().matchAll(FIELD_VALUE)].every(
    ([, value]) => NUMBER.test(value) || NAN.test(value),
  );
}

/** Reader of lines; lines that belong to one quoted text are joined. */
export class LineProtocolReader {
  private readonly schema: Schema;
  private readonly hostSchema: Schema;
  private readonly measurements: ReadonlySet<string>;
  private readonly joiner = new RecordJoiner((raw) => isOpen(raw) && !isRecord(raw), isRecord);

  /** `precision` is s, ms, us or ns. Lines of other `measurements` than the given ones are refused. */
  constructor(precision: string, measurements: readonly string[]) {
    this.schema = schemaOf({ typed: true, integers: true, identity: IDENTITY, timeFormat: precision });
    this.hostSchema = { ...this.schema, identity: HOST_IDENTITY };
    this.measurements = new Set(measurements);
  }

  feed(frames: readonly TextFrame[]): Iterable<Entry> {
    return this.read(this.joiner.feed(frames));
  }

  /** Yield what waited for a closing quote. */
  finish(): Iterable<Entry> {
    return this.read(this.joiner.finish());
  }

  private read(frames: readonly TextFrame[]): Iterable<Entry> {
    return readEach(frames, (frame) => {
      const text = textOf(frame.raw);
      if (text === null) throw new FrameRefused("encoding", "the line is not UTF-8");
      if (text === "" || text.startsWith("#")) return [];
      const record = pointOf(frame, text, this.schema, this.hostSchema);
      const measurement = record.names.get(MEASUREMENT) ?? "";
      if (this.measurements.size === 0 || this.measurements.has(measurement)) return [record];
      const wanted = [...this.measurements].sort().join(", ");
      return [refusalOf(frame, new FrameRefused("metric", `the measurement ${measurement} is not one of ${wanted}`))];
    });
  }
}

function textOf(raw: Uint8Array): string | null {
  try {
    return UTF8.decode(raw)
      .replace(/^[\0\ufeff\r\n]+|[\0\ufeff\r\n]+$/g, "")
      .trim();
  } catch {
    return null;
  }
}

/** Return the point of a line; `hostSchema` is that of lines with the tag HOST. Throws FrameRefused. */
function pointOf(frame: TextFrame, text: string, schema: Schema, hostSchema: Schema): InputRecord {
  const parts = POINT.exec(text);
  const head = parts === null ? null : HEAD.exec(parts[1]);
  if (parts === null || head === null) throw new FrameRefused("syntax", "the line is not line protocol");
  const names = new Map<string, string>();
  for (const [, name, value] of head[2].matchAll(TAG)) {
    if (names.has(unescaped(name))) throw new FrameRefused("ambiguous", "the line has two tags with the same name");
    names.set(unescaped(name), unescaped(value));
  }
  names.set(MEASUREMENT, unescaped(head[1]));
  const values = new Map<string, RawValue>();
  const refused: RefusedValue[] = [];
  for (const [, written, value] of parts[2].matchAll(FIELD_PARTS)) {
    const name = unescaped(written);
    try {
      const content = fieldValue(value);
      if (values.has(name)) refused.push(repeatedValue(name, value));
      else values.set(name, content);
    } catch (error) {
      if (!(error instanceof FrameRefused)) throw error;
      refused.push({ name, value, code: error.code, reason: error.message });
    }
  }
  const time = parts[3] === undefined ? null : wholeNumber(BigInt(parts[3]));
  return recordOf(frame, values, names.get(HOST) ? hostSchema : schema, { time, names, refused });
}

/** Return the value of a field. NaN is no value. Throws FrameRefused. */
function fieldValue(text: string): RawValue {
  if (NAN.test(text)) return null;
  if (text.startsWith('"')) return text.slice(1, -1).replace(/\\(["\\])/g, "$1");
  if (!NUMBER.test(text)) throw new FrameRefused("syntax", `${quoted(shown(text))} is no value: a text is in quotes`);
  const truth = TRUTHS[text.toLowerCase()];
  if (truth !== undefined) return truth;
  if (/[iu]$/i.test(text)) {
    const digits = text.slice(0, -1);
    if (!/^-?[0-9]+$/.test(digits)) throw new FrameRefused("number", `${quoted(shown(text))} is outside of 64 bits`);
    const bits = text.endsWith("u") ? BigInt.asUintN(64, BigInt(digits)) : BigInt.asIntN(64, BigInt(digits));
    if (bits !== BigInt(digits)) throw new FrameRefused("number", `${quoted(shown(text))} is outside of 64 bits`);
    return bits;
  }
  const number = Number(text);
  if (Number.isFinite(number)) return number;
  throw new FrameRefused("number", `${quoted(shown(text))} is too large for a number`);
}

function unescaped(name: string): string {
  return name.replace(/\\([,= ])/g, "$1");
}

/** Return whether a text is not closed. It opens behind an equals sign: a name may contain quotes. */
function isOpen(raw: Uint8Array): boolean {
  const text = textOf(raw) ?? "";
  return text
    .replace(/(?<!\\)="(?:[^"\\]|\\.)*"/gs, "")
    .replaceAll('\\="', "")
    .includes('="');
}

function isRecord(raw: Uint8Array): boolean {
  const text = textOf(raw);
  const parts = text === null ? null : POINT.exec(text);
  return parts !== null && HEAD.test(parts[1]);
}

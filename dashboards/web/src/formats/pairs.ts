/** Lines of names and values: key=value, `key: value unit`, lines of Arduino's Serial Plotter, bare values. As pairs.py. */

import { decodeText } from "./framing";
import {
  type Entry,
  FrameRefused,
  type InputRecord,
  type RawValue,
  type RefusedValue,
  readEach,
  recordOf,
  repeatedValue,
  type Schema,
  schemaOf,
  type TextFrame,
  VALUE,
} from "./record";
import { UNITS } from "./units";
import { writtenNumber } from "./values";

/** Pairs of one line, as many as a device has metrics. */
const MAX_PAIRS = 1024;

const PAIRS_SCHEMA = schemaOf({ words: true, identity: ["device", "device_id", "host"] });
const PLOTTER_SCHEMA = schemaOf({ words: true });

/** Match of a line between blocks of readings, such as ----- or =====. */
export const DECORATION = /^[-=*_#~.+|\s]{2,}$/;
const KEY = /^[\p{L}\p{Nl}\p{No}_][^=:"{}<>]*$/u;
const WORD = /^[\p{L}\p{Nl}\p{No}_][\p{L}\p{N}_.()-]*$/u;
const TOKEN = /[^\s",;|]*"(?:[^"\\]|\\.)*"[^\s,;|]*|[^\s,;|]+|[,;|]/g;
const DIGITS = /^[+-]?(?:[0-9]+|[0-9]{1,3}(?:[.' ][0-9]{3})+)$/;
const FRACTION = /^[0-9]+(?:\s*[^\s0-9=:]{1,8})?$/;
const QUOTED = /^"((?:[^"\\]|\\.)*)"$/;
const SEPARATORS = ",;|";

type Pair = [name: string, value: string];

/** Yield a record for each line of pairs, or its refusal. */
export function readPairs(frames: readonly TextFrame[]): Generator<Entry> {
  return readLines(frames, (frame, text) => {
    if (DECORATION.test(text)) return [];
    const pairs = parsePairs(text);
    if (pairs.length === 0)
      throw new FrameRefused("syntax", "the line has no name with a value, as in temp=21.5 or hum: 40 %");
    return [recordOfPairs(frame, pairs, PAIRS_SCHEMA)];
  });
}

/** Yield a record for each line of label:value or bare values; values without a label are numbered from 1. */
export function readPlotter(frames: readonly TextFrame[]): Generator<Entry> {
  return readLines(frames, (frame, text) => {
    if (DECORATION.test(text)) return [];
    const parts = text
      .split(/(?<!:)[,\t ]+/)
      .map((part) => part.trim())
      .filter(Boolean);
    const pairs = parts.map((part, position): Pair => {
      const at = part.lastIndexOf(":");
      const label = at < 0 ? "" : part.slice(0, at).trim();
      return [label || String(position + 1), part.slice(at + 1)];
    });
    return [recordOfPairs(frame, pairs, PLOTTER_SCHEMA)];
  });
}

/** Yield a record with the bare value of each frame, or its refusal. */
export function readValue(frames: readonly TextFrame[]): Generator<Entry> {
  return readLines(frames, (frame, text) => [recordOf(frame, new Map([[VALUE, text]]), PLOTTER_SCHEMA)]);
}

function readLines(frames: readonly TextFrame[], read: (frame: TextFrame, text: string) => Entry[]): Generator<Entry> {
  return readEach(frames, (frame) => {
    const text = decodeText(frame.raw);
    if (text !== null) return read(frame, text.trim());
    throw new FrameRefused("encoding", "the line is not UTF-8; check the speed of the port or set the encoding");
  });
}

/** Return the names and values of a line in their order; an empty list if a part of it belongs to no pair. */
export function parsePairs(text: string): Pair[] {
  const pairs: { name: string; value: string[] }[] = [];
  let waiting: string[] = [];
  let isSeparated = true;
  for (const token of text.match(TOKEN) ?? []) {
    if (SEPARATORS.includes(token)) {
      isSeparated = true;
      continue;
    }
    const [key, value] = keyOf(token);
    const last = pairs.at(-1);
    if (key !== null && (isSeparated || waiting.length === 0 || last === undefined)) {
      if (waiting.length === 0 && last !== undefined && !isSeparated) waiting = wordsBehind(last.value);
      pairs.push({ name: [...waiting, key].join(" ").trim(), value: value === "" ? [] : [value] });
      waiting = [];
    } else if (last !== undefined && waiting.length === 0 && (!isSeparated || continues(last.value, token))) {
      if (isSeparated) last.value.push(`${last.value.pop()},${token}`);
      else last.value.push(token);
    } else if (WORD.test(token)) waiting.push(token);
    // A time or a number before the first name would become a part of the metric.
    else return [];
    isSeparated = false;
    if (pairs.length > MAX_PAIRS) throw new FrameRefused("limit", `a line has at most ${MAX_PAIRS} pairs`);
  }
  return waiting.length > 0 ? [] : pairs.map(({ name, value }) => [name, value.join(" ")]);
}

/** Remove the words behind a number and its unit, which begin the next name, and return them. */
function wordsBehind(value: string[]): string[] {
  const words: string[] = [];
  if (value.length < 2 || writtenNumber(value[0]) === null) return words;
  for (let last = value.at(-1); value.length > 1 && last !== undefined; last = value.at(-1)) {
    if (!WORD.test(last) || UNITS.has(last)) break;
    words.unshift(last);
    value.pop();
  }
  return words;
}

/** Return the key of a token such as `temp=21.5` or `temp:` with the rest; null if it does not begin a pair. */
function keyOf(token: string): [key: string | null, value: string] {
  const at = token.search(/[=:]/);
  if (at < 0 || token[0] === '"') return [null, token];
  const [key, value] = [token.slice(0, at), token.slice(at + 1)];
  if (!KEY.test(key) || (token[at] === ":" && value.startsWith("//"))) return key === "" ? ["", value] : [null, token];
  return [key, value];
}

/** Return whether a token behind a comma is the fraction of a number: the line has decimal commas. */
function continues(value: string[], token: string): boolean {
  return value.length === 1 && DIGITS.test(value[0]) && FRACTION.test(token);
}

function recordOfPairs(frame: TextFrame, pairs: readonly Pair[], schema: Schema): InputRecord {
  const values = new Map<string, RawValue>();
  const refused: RefusedValue[] = [];
  for (const [name, written] of pairs) {
    const value = QUOTED.exec(written)?.[1].replace(/\\(.)/g, "$1") ?? written;
    if (values.has(name)) refused.push(repeatedValue(name, value));
    else values.set(name, value);
  }
  return recordOf(frame, values, schema, { refused });
}

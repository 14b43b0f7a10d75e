/**
 * Binary frames with live updates: the counterpart of wire/frames.py, which describes the layout. The columns of a
 * decoded frame are views of the frame; nothing is parsed or copied.
 */

import { MAX_SEQ, WireError } from "./protocol";

const FORMAT = 1;
const HEADER_BYTES = 32;
const HEAD_BYTES = 8;
const ITEM_BYTES = 8;

/** Origin of the readings in a frame. */
export const Kind = { LIVE: 1, HISTORY: 2, MISSED: 3, SNAPSHOT: 4 } as const;
export type Kind = (typeof Kind)[keyof typeof Kind];

/** Readings of one numeric series. Times are in milliseconds; NaN means no value. */
interface NumberColumn {
  series: number;
  times_ms: Float64Array;
  values: Float64Array;
}

/** Readings of one string series. */
interface TextColumn {
  series: number;
  times_ms: number[];
  values: (string | null)[];
}

export interface Update {
  kind: Kind;
  schema: number;
  /** 0: for every live subscription of the schema. */
  subscription: number;
  /** Readings since the last frame that were summarised for this viewer. */
  conflated: number;
  /** The cursor after this frame. */
  offset: number;
  numbers: NumberColumn[];
  texts: TextColumn[];
}

export function encodeUpdate(update: Update): ArrayBuffer {
  const text =
    update.texts.length > 0
      ? new TextEncoder().encode(JSON.stringify(update.texts.map((t) => [t.series, t.times_ms, t.values])))
      : new Uint8Array(0);
  let size = HEADER_BYTES + text.length;
  for (const column of update.numbers) size += HEAD_BYTES + 2 * ITEM_BYTES * column.times_ms.length;
  const frame = new ArrayBuffer(size);
  const view = new DataView(frame);
  view.setUint8(0, FORMAT);
  view.setUint8(1, update.kind);
  view.setUint16(2, update.numbers.length, true);
  view.setUint32(4, update.schema, true);
  view.setUint32(8, update.subscription, true);
  view.setUint32(12, Math.min(update.conflated, 2 ** 32 - 1), true);
  view.setFloat64(16, update.offset, true);
  view.setUint32(24, text.length, true);
  let head = HEADER_BYTES;
  let position = HEADER_BYTES + update.numbers.length * HEAD_BYTES;
  for (const column of update.numbers) {
    const length = column.times_ms.length;
    view.setUint32(head, column.series, true);
    view.setUint32(head + 4, length, true);
    head += HEAD_BYTES;
    new Float64Array(frame, position, length).set(column.times_ms);
    position += length * ITEM_BYTES;
    new Float64Array(frame, position, length).set(column.values);
    position += length * ITEM_BYTES;
  }
  new Uint8Array(frame, position).set(text);
  return frame;
}

/** Decode the columns of a frame. Throws WireError("bad_message") for an invalid frame. */
export function decodeUpdate(frame: ArrayBuffer): Update {
  const view = new DataView(frame);
  if (frame.byteLength < HEADER_BYTES || view.getUint8(0) !== FORMAT) rejectFrame("format or length");
  const kind = view.getUint8(1);
  if (kind < Kind.LIVE || kind > Kind.SNAPSHOT) rejectFrame(`kind ${kind}`);
  const count = view.getUint16(2, true);
  const offset = view.getFloat64(16, true);
  if (!Number.isInteger(offset) || offset < 0 || offset > MAX_SEQ) rejectFrame("offset");
  const schema = view.getUint32(4, true);
  if (schema === 0) rejectFrame("schema 0");
  if (view.getUint32(28, true) !== 0) rejectFrame("spare bytes");
  const textBytes = view.getUint32(24, true);
  let position = HEADER_BYTES + count * HEAD_BYTES;
  if (position > frame.byteLength) rejectFrame("length");
  const numbers: NumberColumn[] = [];
  for (let i = 0; i < count; i++) {
    const head = HEADER_BYTES + i * HEAD_BYTES;
    const length = view.getUint32(head + 4, true);
    if (position + 2 * ITEM_BYTES * length > frame.byteLength) rejectFrame("length");
    numbers.push({
      series: view.getUint32(head, true),
      times_ms: new Float64Array(frame, position, length),
      values: new Float64Array(frame, position + length * ITEM_BYTES, length),
    });
    position += 2 * ITEM_BYTES * length;
  }
  if (position + textBytes !== frame.byteLength) rejectFrame("length");
  return {
    kind: kind as Kind,
    schema,
    subscription: view.getUint32(8, true),
    conflated: view.getUint32(12, true),
    offset,
    numbers,
    texts: textBytes > 0 ? decodeTexts(new Uint8Array(frame, position)) : [],
  };
}

function decodeTexts(bytes: Uint8Array): TextColumn[] {
  let columns: unknown;
  try {
    columns = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    rejectFrame("text columns");
  }
  if (!Array.isArray(columns)) rejectFrame("text columns");
  return columns.map((column) => {
    if (!Array.isArray(column) || column.length !== 3) rejectFrame("text column");
    const [series, times_ms, values] = column;
    const ok =
      Number.isInteger(series) &&
      series >= 0 &&
      Array.isArray(times_ms) &&
      Array.isArray(values) &&
      times_ms.length === values.length &&
      times_ms.every((time) => typeof time === "number") &&
      values.every((value) => value === null || typeof value === "string");
    if (!ok) rejectFrame("text column");
    return { series, times_ms, values };
  });
}

function rejectFrame(part: string): never {
  throw new WireError("bad_message", `not a live frame: ${part}`);
}

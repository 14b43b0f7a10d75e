/** Framing: bytes of a stream to lines, in bounded memory. Cutting the stream anywhere changes nothing. As framing.py. */

import { FrameRefused, MAX_RAW_BYTES, type RefusedInput, refusalOf, type TextFrame } from "./record";

/** Longest line of a file. An input from a slow device passes a smaller bound. */
export const MAX_LINE_BYTES = 1 << 20;
/** Lines of one record. It limits the work for a quote that is never closed. */
const MAX_RECORD_LINES = 64;
const LONGEST_BOM = 3;
const [NEW_LINE, RETURN] = [10, 13];
/** White space of bytes: tab, the line ends, vertical tab, form feed, space. */
const isSpace = (byte: number) => byte === 32 || (byte >= 9 && byte <= RETURN);

export function joinBytes(first: Uint8Array, second: Uint8Array): Uint8Array {
  if (first.length === 0) return second;
  const joined = new Uint8Array(first.length + second.length);
  joined.set(first);
  joined.set(second, first.length);
  return joined;
}

const EMPTY = new Uint8Array();

/**
 * Decoder of an encoding to UTF-8, so that everything behind it reads one encoding. "auto" is UTF-8, or UTF-16 with a
 * byte order mark; bytes that are not valid are left as they are.
 */
export class Transcoder {
  private begin: Uint8Array | null = EMPTY;
  private decoder: TextDecoder | null = null;
  private readonly isUnicode: boolean;

  constructor(encoding: string) {
    const name = encoding === "auto" ? "utf-8" : new TextDecoder(encoding).encoding;
    this.isUnicode = name === "utf-8";
    if (this.isUnicode) return;
    this.decoder = new TextDecoder(encoding);
    this.begin = null;
  }

  /** Return the next bytes in UTF-8 without a byte order mark. */
  feed(data: Uint8Array, isFinal = false): Uint8Array {
    let bytes = data;
    if (this.begin !== null) {
      bytes = joinBytes(this.begin, data);
      this.begin = bytes;
      if (bytes.length < LONGEST_BOM && !isFinal) return EMPTY;
      this.begin = null;
      const mark = (bytes[0] << 8) | bytes[1];
      if (bytes.length >= 2 && mark === 0xfffe) this.decoder = new TextDecoder("utf-16le");
      else if (bytes.length >= 2 && mark === 0xfeff) this.decoder = new TextDecoder("utf-16be");
      else if (mark === 0xefbb && bytes[2] === 0xbf) bytes = bytes.subarray(LONGEST_BOM);
    }
    return this.decoder === null ? bytes : new TextEncoder().encode(this.decoder.decode(bytes, { stream: !isFinal }));
  }
}

/**
 * Splitter of bytes into lines that end with \n, \r\n or \r. Blank lines are counted and not returned. A longer line
 * than `maxBytes` is discarded and becomes one refusal with its beginning.
 */
export class LineFraming {
  private rest = EMPTY;
  private line = 0;
  private dropped: Uint8Array | null = null;
  private readonly maxBytes: number;

  constructor(maxBytes = MAX_LINE_BYTES) {
    this.maxBytes = maxBytes;
  }

  /** Return the frames that are now complete. */
  feed(data: Uint8Array): (TextFrame | RefusedInput)[] {
    return this.split(joinBytes(this.rest, data), false);
  }

  /** Return the last line of an input that does not end with a line end. */
  finish(): (TextFrame | RefusedInput)[] {
    return this.split(this.rest, true);
  }

  private split(data: Uint8Array, isFinal: boolean): (TextFrame | RefusedInput)[] {
    const found: (TextFrame | RefusedInput)[] = [];
    let start = 0;
    for (let at = 0; at < data.length; at++) {
      if (data[at] !== NEW_LINE && data[at] !== RETURN) continue;
      // A \r at the end can be the first half of \r\n.
      if (data[at] === RETURN && at + 1 === data.length && !isFinal) break;
      this.end(data.subarray(start, at), found);
      if (data[at] === RETURN && data[at + 1] === NEW_LINE) at++;
      start = at + 1;
    }
    let rest = data.subarray(start);
    const end = rest.at(-1) === RETURN ? rest.length - 1 : rest.length;
    if (this.dropped !== null) rest = rest.subarray(end);
    else if (end > this.maxBytes) {
      this.dropped = rest.slice(0, this.maxBytes);
      rest = rest.subarray(end);
    }
    if (isFinal && (rest.length > 0 || this.dropped !== null)) {
      this.end(rest, found);
      rest = EMPTY;
    }
    this.rest = rest.slice();
    return found;
  }

  private end(raw: Uint8Array, found: (TextFrame | RefusedInput)[]): void {
    this.line++;
    const long = this.dropped ?? (raw.length > this.maxBytes ? raw : null);
    this.dropped = null;
    if (long !== null) found.push(this.overlong(long));
    else if (!raw.every(isSpace)) found.push({ line: this.line, raw: raw.slice() });
  }

  private overlong(raw: Uint8Array): RefusedInput {
    const reason = `the line is longer than ${this.maxBytes} bytes; check the speed of the port or the format`;
    const kept = raw.slice(0, Math.min(this.maxBytes, MAX_RAW_BYTES));
    return refusalOf({ line: this.line, raw: kept }, new FrameRefused("size", reason));
  }
}

/**
 * Joiner of lines that one record in quotes spans. An open quote ends at the next line that is a full record: then it
 * costs its own line only.
 */
export class RecordJoiner {
  private pending: TextFrame[] = [];
  private readonly isOpen: (raw: Uint8Array) => boolean;
  private readonly isRecord: (raw: Uint8Array) => boolean;

  constructor(isOpen: (raw: Uint8Array) => boolean, isRecord: (raw: Uint8Array) => boolean) {
    this.isOpen = isOpen;
    this.isRecord = isRecord;
  }

  /** Return the records that are complete. A frame with an open quote is a broken record. */
  feed(frames: readonly TextFrame[]): TextFrame[] {
    const found: TextFrame[] = [];
    for (const frame of frames) {
      if (this.pending.length > 0) {
        if (!this.isRecord(frame.raw)) {
          found.push(...this.append(frame));
          continue;
        }
        found.push(...this.finish());
      }
      if (this.isOpen(frame.raw)) this.pending = [frame];
      else found.push(frame);
    }
    return found;
  }

  /** Return the broken record, then the records in the lines behind it. */
  finish(): TextFrame[] {
    const found: TextFrame[] = [];
    while (this.pending.length > 0) found.push(...this.giveUp());
    return found;
  }

  private giveUp(): TextFrame[] {
    const [first, ...rest] = this.pending;
    this.pending = [];
    return [first, ...this.feed(rest)];
  }

  private append(frame: TextFrame): TextFrame[] {
    this.pending.push(frame);
    const [first, ...others] = this.pending;
    let joined = first.raw;
    let line = first.line;
    for (const other of others) {
      // Blank lines are no frames, and are a part of the text here.
      const ends = new Uint8Array(other.line - line).fill(NEW_LINE);
      joined = joinBytes(joinBytes(joined, ends), other.raw);
      line = other.line;
    }
    if (!this.isOpen(joined)) {
      this.pending = [];
      return [{ line: first.line, raw: joined }];
    }
    return this.pending.length >= MAX_RECORD_LINES ? this.giveUp() : [];
  }
}

const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const CP1252 = new TextDecoder("windows-1252");
/** Bytes that cp1252 does not have; browsers decode them to these control characters. */
const NOT_CP1252 = /[\x81\x8d\x8f\x90\x9d]/;

/**
 * Return a frame as text without NULs, byte order mark and line ends around it; null if it is not UTF-8. With
 * `hasFallback`, other bytes are cp1252, the encoding of Windows in Western Europe.
 */
export function decodeText(raw: Uint8Array, hasFallback = false): string | null {
  let text: string;
  try {
    text = UTF8.decode(raw);
  } catch {
    text = hasFallback ? CP1252.decode(raw) : "\x81";
    if (NOT_CP1252.test(text)) return null;
  }
  return text.replace(/^[\0\ufeff\r\n]+|[\0\ufeff\r\n]+$/g, "");
}

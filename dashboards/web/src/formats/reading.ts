/**
 * The whole way of one input: bytes to frames, records, rows and refusals. As reading.py. `feed` reads a file, whose first
 * frames decide what the rules leave open; `begin` and `message` read a port line by line.
 */

import { type Detection, detect } from "./detection";
import { joinBytes, LineFraming, MAX_LINE_BYTES, Transcoder } from "./framing";
import { Interpreter, type KnownType } from "./interpretation";
import { readJson, readSenml } from "./json_text";
import { LineProtocolReader } from "./line_protocol";
import { NmeaReader } from "./nmea";
import { readPairs, readPlotter, readValue } from "./pairs";
import { type Entry, FrameRefused, type RefusedInput, type Row, refusalOf, type TextFrame } from "./record";
import type { ReadFormat, Rules } from "./rules";
import { TableReader } from "./table";

/** First frames of a file that decide. */
const WINDOW = 2000;

/** Reader of one format: frames to records and refusals. */
interface Reader {
  feed(frames: readonly TextFrame[]): Iterable<Entry>;
  /** Yield the records that waited for more frames. */
  finish(): Iterable<Entry>;
}

export interface Result {
  rows: Row[];
  refusals: RefusedInput[];
}

/** Reading of one input by one set of rules. `detection` is null until enough frames arrived. */
export class Reading {
  detection: Detection | null = null;
  readonly interpreter: Interpreter;
  private readonly rules: Rules;
  private readonly transcoder: Transcoder;
  private readonly framing: LineFraming;
  private head: TextFrame[] = [];
  private reader: Reader | null = null;
  private lines = 0;

  constructor(rules: Rules, maxLineBytes = MAX_LINE_BYTES, knownType?: KnownType) {
    this.rules = rules;
    this.interpreter = new Interpreter(rules, knownType);
    this.transcoder = new Transcoder(rules.encoding);
    this.framing = new LineFraming(maxLineBytes);
  }

  /** Return what these bytes complete. */
  feed(data: Uint8Array, nowNs: bigint): Result {
    return this.read(this.framing.feed(this.transcoder.feed(data)), nowNs, false);
  }

  /** Return what waited for more bytes, at the end of the input. */
  finish(nowNs: bigint): Result {
    const frames = this.framing.feed(this.transcoder.feed(new Uint8Array(), true));
    return this.read([...frames, ...this.framing.finish()], nowNs, true);
  }

  /**
   * Choose the format of a live input from its first frames, and learn from them; `message` reads them later. Return
   * false if they have no known format.
   */
  begin(head: readonly Uint8Array[]): boolean {
    const frames = head.map((raw, place): TextFrame => ({ line: place + 1, raw }));
    this.detection = this.detect(frames);
    if (this.detection === null) return false;
    this.interpreter.learn([...readerOf(this.detection, this.rules, frames).feed(frames)]);
    this.reader = readerOf(this.detection, this.rules, frames);
    return true;
  }

  /** Continue a live input that began with these frames, and does not send them again. Return false as `begin` does. */
  resume(head: readonly Uint8Array[]): boolean {
    const isKnown = this.begin(head);
    if (this.reader instanceof TableReader) this.reader.skipHeader();
    return isKnown;
  }

  /** Return the content of one message that is a frame by itself. */
  message(payload: Uint8Array, nowNs: bigint): Result {
    return this.read([{ line: this.lines + 1, raw: payload }], nowNs, false);
  }

  private read(frames: readonly (TextFrame | RefusedInput)[], nowNs: bigint, isFinal: boolean): Result {
    const entries: Entry[] = [];
    for (const frame of frames) {
      this.lines = Math.max(this.lines, frame.line);
      if ("kind" in frame) entries.push(frame);
      else if (this.reader !== null) entries.push(...this.reader.feed([frame]));
      else {
        this.head.push(frame);
        if (this.head.length >= WINDOW) this.start(entries);
      }
    }
    if (isFinal) {
      if (this.reader === null) this.start(entries);
      const last = [...(this.reader?.finish() ?? [])];
      if (this.reader instanceof DocumentReader) this.interpreter.learn(last);
      entries.push(...last);
    }
    return this.interpreter.interpret(entries, nowNs);
  }

  /** Choose the format from the window, learn from it, and read it. */
  private start(entries: Entry[]): void {
    const head = this.head;
    this.head = [];
    if (head.length === 0) return;
    this.detection = this.detect(head);
    if (this.detection === null) {
      entries.push(...head.map(unknownFormat));
      return;
    }
    const reader = readerOf(this.detection, this.rules, head);
    this.reader = this.detection.isDocument ? new DocumentReader(reader) : reader;
    const read = [...this.reader.feed(head)];
    this.interpreter.learn(read);
    entries.push(...read);
  }

  private detect(head: readonly TextFrame[]): Detection | null {
    const { format } = this.rules;
    if (format === "auto") return detect(head);
    const isDocument = (format === "json" || format === "senml") && detect(head)?.isDocument === true;
    return { format, reason: "the rules say so", unread: "", isDocument };
  }
}

/** Reader of a format whose frames do not depend on each other. */
class FrameReader implements Reader {
  readonly feed: (frames: readonly TextFrame[]) => Iterable<Entry>;

  constructor(read: (frames: readonly TextFrame[]) => Iterable<Entry>) {
    this.feed = read;
  }

  finish(): Entry[] {
    return [];
  }
}

/** Reader of one JSON value that spans lines. */
class DocumentReader implements Reader {
  private readonly reader: Reader;
  private line = 0;
  private content: Uint8Array = new Uint8Array();

  constructor(reader: Reader) {
    this.reader = reader;
  }

  feed(frames: readonly TextFrame[]): Entry[] {
    for (const { line, raw } of frames) {
      this.content = this.line === 0 ? raw : joinBytes(joinBytes(this.content, new Uint8Array([10])), raw);
      this.line ||= line;
    }
    return [];
  }

  finish(): Iterable<Entry> {
    return this.line === 0 ? [] : this.reader.feed([{ line: this.line, raw: this.content }]);
  }
}

const READERS: Partial<Record<ReadFormat, (frames: readonly TextFrame[]) => Iterable<Entry>>> = {
  json: readJson,
  senml: readSenml,
  pairs: readPairs,
  plotter: readPlotter,
};

function readerOf({ format, unread }: Detection, rules: Rules, head: readonly TextFrame[]): Reader {
  if (unread !== "") return new FrameReader((frames) => frames.map((frame) => unreadFormat(frame, unread)));
  if (format === "csv") return new TableReader(rules, head);
  if (format === "nmea") return new NmeaReader();
  if (format === "line")
    return new LineProtocolReader(
      ["s", "ms", "us"].includes(rules.time_format) ? rules.time_format : "ns",
      rules.measurements,
    );
  return new FrameReader(READERS[format] ?? readValue);
}

/** Return the refusal of a frame for which no format was found. */
export function unknownFormat(frame: TextFrame): RefusedInput {
  const reason = "the line has no format that is known: set `format`";
  return refusalOf(frame, new FrameRefused("format", reason, 'format = "csv"'));
}

function unreadFormat(frame: TextFrame, name: string): RefusedInput {
  const reason = `${name} is not read in the browser: read this device with \`device-agent serial\``;
  return refusalOf(frame, new FrameRefused("format", reason));
}

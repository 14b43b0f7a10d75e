/** Lines of one port, from the first to the last. As device_agent/sources/lines.py; the time of arrival is an argument. */

import { cellsOf, delimiterOf, isHeader } from "../formats/columns";
import { detect } from "../formats/detection";
import { decodeText, LineFraming, Transcoder } from "../formats/framing";
import type { KnownType } from "../formats/interpretation";
import { documents } from "../formats/json_text";
import { Reading, unknownFormat } from "../formats/reading";
import { FrameRefused, type RefusedInput, type Row } from "../formats/record";
import type { Rules } from "../formats/rules";
import type { InputSeries } from "../formats/series";

/** A second and a half at 115,200 baud. A longer line is not a reading but the result of a wrong baud rate. */
const MAX_LINE_BYTES = 16 * 1024;
/** First lines of a port that decide its format: a header and some rows. JSON and NMEA need one. */
const HEAD_LINES = 5;
/** Unreadable lines in a row after which a detected format is detected again: the device or its program changed. */
const LOST_LINES = 20;

/** Result of one line. `news` are metrics that are new or have a new type or unit. */
export interface LineResult {
  raw: Uint8Array;
  arrivalNs: bigint;
  rows: Row[];
  refusals: RefusedInput[];
  news: InputSeries[];
  /** It may be the rest of a line, and was skipped. */
  isSkipped: boolean;
}

/** Line that waits for the choice of the format. `isFirst`: it may be the rest of a line. */
interface HeadLine {
  raw: Uint8Array;
  arrivalNs: bigint;
  isFirst: boolean;
}

export class LineInput {
  private readonly rules: Rules;
  private knownType: KnownType;
  private framing = new LineFraming(MAX_LINE_BYTES);
  private transcoder: Transcoder;
  private isFirst = true;
  private head: HeadLine[] = [];
  private reading: Reading | null = null;
  private unreadable = 0;

  /** The first lines, which decided the format; empty before it is known. */
  lines: Uint8Array[] = [];

  /** `lines` are the first lines of an earlier run, which decide the format again. */
  constructor(rules: Rules, knownType: KnownType, lines: Uint8Array[] = []) {
    this.rules = rules;
    this.knownType = knownType;
    this.transcoder = new Transcoder(rules.encoding);
    this.continue(lines);
  }

  /** Continue with the types that the metrics of a device have already. */
  adopt(knownType: KnownType): void {
    this.knownType = knownType;
    this.continue(this.lines);
  }

  private continue(lines: Uint8Array[]): void {
    const reading = new Reading(this.rules, MAX_LINE_BYTES, this.knownType);
    if (lines.length === 0 || !reading.resume(lines)) return;
    this.reading = reading;
    this.lines = lines;
  }

  /** The format with its reason; null before it is known. */
  get detection() {
    return this.reading?.detection ?? null;
  }

  /** Return whether lines wait for others, or for `begin`, so that the format can be chosen. */
  get isWaiting(): boolean {
    return this.head.some(({ isFirst }) => !isFirst);
  }

  /** Expect a new connection: its first line may be the rest of one. */
  open(): void {
    this.framing = new LineFraming(MAX_LINE_BYTES);
    this.transcoder = new Transcoder(this.rules.encoding);
    this.isFirst = true;
  }

  /** Return the results of the lines that these bytes complete. */
  feed(data: Uint8Array, nowNs: bigint): LineResult[] {
    const results: LineResult[] = [];
    for (const frame of this.framing.feed(this.transcoder.feed(data))) {
      const isFirst = this.isFirst;
      this.isFirst = false;
      const { raw } = frame;
      if ("kind" in frame) results.push(lineResult(raw, nowNs, { refusals: [frame] }));
      else if (this.reading === null) {
        this.head.push({ raw, arrivalNs: nowNs, isFirst });
        if (isWhole(raw)) results.push(...this.beginWith([raw]));
        else if (this.head.length >= HEAD_LINES) results.push(...this.begin());
      } else if (isFirst && !isWhole(raw)) results.push(lineResult(raw, nowNs, { isSkipped: true }));
      else results.push(this.read(this.reading, raw, nowNs));
    }
    return results;
  }

  /** Choose the format from the lines so far; return their results. */
  begin(): LineResult[] {
    const lines = this.head.filter(({ isFirst }) => !isFirst).map(({ raw }) => raw);
    const [first] = this.head;
    if (lines.length === 0) return [];
    if (first.isFirst && this.isHeader(first.raw, lines)) {
      first.isFirst = false;
      lines.unshift(first.raw);
    }
    return this.beginWith(lines);
  }

  /** Begin to read by the format of these lines; return the results of all lines that wait. */
  private beginWith(lines: Uint8Array[]): LineResult[] {
    const head = this.head;
    this.head = [];
    const reading = new Reading(this.rules, MAX_LINE_BYTES, this.knownType);
    if (reading.begin(lines)) {
      this.reading = reading;
      this.lines = lines;
      this.unreadable = 0;
    }
    return head.map(({ raw, arrivalNs, isFirst }) => {
      if (isFirst && !isWhole(raw)) return lineResult(raw, arrivalNs, { isSkipped: true });
      if (this.reading !== null) return this.read(this.reading, raw, arrivalNs);
      return lineResult(raw, arrivalNs, { refusals: [unknownFormat({ line: 1, raw })] });
    });
  }

  /** Return whether a first line is complete because it is the header of the table in the others. */
  private isHeader(first: Uint8Array, lines: Uint8Array[]): boolean {
    if (this.rules.format !== "auto" && this.rules.format !== "csv") return false;
    const texts = [first, ...lines].map((raw) => decodeText(raw, true) ?? "");
    const delimiter = this.rules.delimiter || delimiterOf(texts);
    try {
      const rows = texts.map((text) => cellsOf(text, delimiter));
      const areEqual = rows.every((row) => row.length === rows[0].length);
      const frames = lines.map((raw, place) => ({ line: place + 1, raw }));
      return areEqual && isHeader(rows[0]) && detect(frames)?.format === "csv";
    } catch (error) {
      if (error instanceof FrameRefused) return false;
      throw error;
    }
  }

  private read(reading: Reading, raw: Uint8Array, nowNs: bigint): LineResult {
    const { rows, refusals } = reading.message(raw, nowNs);
    this.unreadable = refusals.length > 0 && rows.length === 0 ? this.unreadable + 1 : 0;
    if (this.unreadable >= LOST_LINES && this.rules.format === "auto") this.reading = null;
    const { news } = reading.interpreter.series;
    // News wait for a row: a metric without a value has no type yet.
    const found = rows.length > 0 ? [...news] : [];
    if (rows.length > 0) news.clear();
    return lineResult(raw, nowNs, { rows, refusals, news: found });
  }
}

function lineResult(raw: Uint8Array, arrivalNs: bigint, found: Partial<LineResult>): LineResult {
  return { raw, arrivalNs, rows: [], refusals: [], news: [], isSkipped: false, ...found };
}

/** Return whether a line proves that it is complete: JSON, or a sentence of NMEA, which begins with its mark. */
function isWhole(raw: Uint8Array): boolean {
  const text = (decodeText(raw) ?? "").trim();
  if (text.startsWith("$") || text.startsWith("!")) return true;
  if (!text.startsWith("{") && !text.startsWith("[")) return false;
  try {
    return documents(raw).length > 0;
  } catch (error) {
    if (error instanceof FrameRefused) return false;
    throw error;
  }
}

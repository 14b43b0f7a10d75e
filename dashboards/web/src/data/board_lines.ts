/** Lines of a board as they are shown, with what they became; and whether they look like those of a wrong baud rate. */

import { textOfLine } from "../agent/batch";
import type { LineResult } from "../agent/lines";
import { visible } from "./visible_text";

/** Lines that are shown: more than a screen has, and few enough to draw ten times a second. */
const MAX_SHOWN = 100;
/** Characters of a line that are shown. */
const MAX_TEXT = 240;
/** Bytes that decide about the baud rate: a wrong one gives few line ends. */
const MIN_BYTES = 64;
const NOISE_BYTES = 2048;
/** Share of bytes that are no text, above which the baud rate is probably wrong. Texts in cp1252 have a tenth. */
const NOISE_SHARE = 0.2;

/** A line with what it became. `key` counts the lines. */
export interface ShownLine {
  key: number;
  text: string;
  values: { metric: string; value: string; unit: string }[];
  refusals: { metric: string; reason: string; setting: string }[];
  isSkipped: boolean;
}

/** Counts of what was read since the port was chosen. */
export interface LineTotals {
  lines: number;
  readings: number;
  refused: number;
  skipped: number;
}

export const NO_LINES: LineTotals = { lines: 0, readings: 0, refused: 0, skipped: 0 };

export class LineLog {
  shown: ShownLine[] = [];
  totals = NO_LINES;
  private readonly units = new Map<string, string>();
  private recent = new Uint8Array();

  /** Add what was read. The newest line is the last one. */
  add(results: readonly LineResult[], bytes: Uint8Array): void {
    const totals = { ...this.totals };
    for (const { rows, refusals, news, isSkipped } of results) {
      totals.lines++;
      totals.refused += refusals.length;
      totals.skipped += Number(isSkipped);
      for (const { values } of rows) totals.readings += values.size;
      for (const { metric, unit } of news) this.units.set(metric, unit);
    }
    const first = this.totals.lines + 1;
    const lines = results.slice(-MAX_SHOWN);
    const keys = first + results.length - lines.length;
    this.shown = [...this.shown, ...lines.map((result, place) => this.lineOf(result, keys + place))].slice(-MAX_SHOWN);
    this.totals = totals;
    const recent = new Uint8Array(this.recent.length + bytes.length);
    recent.set(this.recent);
    recent.set(bytes, this.recent.length);
    this.recent = recent.slice(-NOISE_BYTES);
  }

  /** Whether most of the newest bytes are no text, as with a wrong baud rate. */
  get isNoise(): boolean {
    if (this.recent.length < MIN_BYTES) return false;
    const text = new TextDecoder().decode(this.recent);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: these are the characters that lines do not have
    const strange = text.match(/[\u0000-\u0008\u000e-\u001f\u007f\ufffd]/g) ?? [];
    return strange.length > text.length * NOISE_SHARE;
  }

  private lineOf({ raw, rows, refusals, isSkipped }: LineResult, key: number): ShownLine {
    return {
      key,
      text: visible(textOfLine(raw.subarray(0, MAX_TEXT))),
      values: rows.flatMap(({ values }) =>
        [...values].map(([metric, value]) => ({
          metric: visible(metric),
          value: visible(String(value)),
          unit: this.units.get(metric) ?? "",
        })),
      ),
      refusals: refusals.map(({ metric, reason, setting }) => ({
        metric: visible(metric),
        reason: visible(reason),
        setting: visible(setting),
      })),
      isSkipped,
    };
  }
}

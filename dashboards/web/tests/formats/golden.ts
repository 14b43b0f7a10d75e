/** Reads the golden frames that every implementation of the formats must pass, and the content of some bytes. */

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { KnownType } from "../../src/formats/interpretation";
import { Reading } from "../../src/formats/reading";
import type { RefusedInput, Row, Value } from "../../src/formats/record";
import { rulesOf } from "../../src/formats/rules";

export const ROOT = fileURLToPath(new URL("../../../../", import.meta.url));
/** 2026-11-28T15:30:00Z. */
export const NOW_NS = 1_795_879_800n * 1_000_000_000n;

interface GoldenRow {
  device: string;
  time_ns: string | null;
  values: Record<string, Value>;
}

export interface GoldenFrame {
  name: string;
  rules: Record<string, unknown>;
  text?: string;
  hex?: string;
  rows: GoldenRow[];
  refusals: { line: number; code: string; metric: string }[];
  units: Record<string, string>;
}

export const FRAMES = JSON.parse(readFileSync(`${ROOT}tests/formats/golden/frames.json`, "utf8")) as GoldenFrame[];

export function bytesOf(frame: Pick<GoldenFrame, "text" | "hex">): Uint8Array {
  if (frame.hex === undefined) return new TextEncoder().encode(frame.text);
  return Uint8Array.from(frame.hex.match(/../g) ?? [], (digits) => Number.parseInt(digits, 16));
}

/** Everything that a reading returned. */
export interface Content {
  rows: Row[];
  refusals: RefusedInput[];
  reading: Reading;
}

/** Return the content of some bytes, which are fed in pieces of these sizes, again and again; none: all at once. */
export function read(
  raw: Uint8Array,
  rules: Record<string, unknown> = {},
  pieces: number[] = [],
  known?: KnownType,
): Content {
  const reading = new Reading(rulesOf(rules), undefined, known);
  const content: Content = { rows: [], refusals: [], reading };
  const add = ({ rows, refusals }: { rows: Row[]; refusals: RefusedInput[] }) => {
    content.rows.push(...rows);
    content.refusals.push(...refusals);
  };
  for (let start = 0, turn = 0; start < raw.length; turn++) {
    const size = pieces[turn % pieces.length] ?? raw.length;
    add(reading.feed(raw.slice(start, start + size), NOW_NS));
    start += size;
  }
  add(reading.finish(NOW_NS));
  return content;
}

/** Return rows as the golden file has them. */
export function plainRows(rows: readonly Row[]): GoldenRow[] {
  return rows.map(({ device, timeNs, values }) => ({
    device,
    time_ns: timeNs === null ? null : String(timeNs),
    values: Object.fromEntries(values),
  }));
}

/** Batches of readings in columns, and reports of what was refused: the bodies of messages for the spool. Pure. */

import type { RefusedInput, Row, Value } from "../formats/record";
import { encodeBody, type Metric, type SourceRefusal } from "../wire/device";
import { encodeExact } from "../wire/exact_json";

/** Rows of one batch, times its metrics: what is missing in a column is `null`. A frame stays below that of a hub. */
const MAX_CELLS = 10_000;
/** Characters of the values of one batch. */
const MAX_LENGTH = 64 * 1024;
const MAX_MESSAGE = 512;
const MAX_RAW = 512;
const MAX_VALUE = 128;
const MAX_SETTING = 256;
const MAX_METRIC_NAME = 128;
const MAX_DESCRIPTION = 256;
/** Two readings of one metric never have the same time: lines of one read differ by this. */
const STEP_NS = 1000n;

/** A body for the spool. */
export interface Body {
  kind: "data" | "refused";
  body: string;
  readings: number;
}

/** Rows of readings, until they are one batch. */
export class BatchBuilder {
  private times: bigint[] = [];
  private columns = new Map<string, (string | null)[]>();
  private count = 0;
  private length = 0;
  private lastNs = 0n;

  get readings(): number {
    return this.count;
  }

  /** Return whether a row fits. If not, the batch has to be taken first. */
  hasRoom({ values }: Row): boolean {
    let columns = this.columns.size;
    for (const name of values.keys()) columns += Number(!this.columns.has(name));
    const isSmall = (this.times.length + 1) * columns <= MAX_CELLS && this.length < MAX_LENGTH;
    return isSmall || this.times.length === 0;
  }

  /** Add a row. One without a time has that of its arrival, behind those of earlier arrivals. */
  add({ timeNs, values }: Row, arrivalNs: bigint): void {
    const time = timeNs ?? (arrivalNs > this.lastNs ? arrivalNs : this.lastNs + STEP_NS);
    if (timeNs === null) this.lastNs = time;
    this.times.push(time);
    for (const [name, value] of values) {
      let column = this.columns.get(name);
      if (column === undefined) {
        column = [];
        this.columns.set(name, column);
      }
      while (column.length < this.times.length - 1) column.push(null);
      const text = encodeExact(value as Exclude<Value, undefined>);
      column.push(text);
      this.length += text.length;
      this.count++;
    }
  }

  /** Return the batch and begin the next one; null without a reading. */
  take(): Body | null {
    if (this.count === 0) return null;
    const rows = this.times.length;
    const columns = [...this.columns].map(([name, texts]) => {
      const column = Array.from({ length: rows }, (_, row) => texts[row] ?? "null");
      return `${JSON.stringify(name)}:[${column.join(",")}]`;
    });
    const body = `"time":[${this.times.join(",")}],"values":{${columns.join(",")}}`;
    const readings = this.count;
    this.times = [];
    this.columns = new Map();
    this.count = 0;
    this.length = 0;
    return { kind: "data", body, readings };
  }
}

/** Refused lines and values since the last report: the count and the first example of each reason. */
export class RefusalTally {
  private readonly reasons = new Map<string, SourceRefusal>();
  private firstNs = 0n;
  private lastNs = 0n;

  get isEmpty(): boolean {
    return this.reasons.size === 0;
  }

  /** Count refusals. The number of codes bounds the reasons. */
  add(refusals: readonly RefusedInput[], nowNs: bigint): void {
    for (const refusal of refusals) {
      if (this.reasons.size === 0) this.firstNs = nowNs;
      this.lastNs = nowNs > this.firstNs ? nowNs : this.firstNs;
      const known = this.reasons.get(refusal.code);
      if (known === undefined) this.reasons.set(refusal.code, exampleOf(refusal));
      else known.count++;
    }
  }

  /** Return the report of a source and begin the next one; null if nothing was refused. */
  take(source: string): Body | null {
    if (this.reasons.size === 0) return null;
    const reasons = [...this.reasons.values()];
    this.reasons.clear();
    return { kind: "refused", body: encodeBody({ source, from: this.firstNs, to: this.lastNs, reasons }), readings: 0 };
  }
}

function exampleOf({ code, reason, raw, metric, value, setting }: RefusedInput): SourceRefusal {
  return {
    code,
    count: 1,
    message: cut(reason, MAX_MESSAGE),
    raw: cut(textOfLine(raw), MAX_RAW),
    metric: cut(metric, MAX_METRIC_NAME) || undefined,
    value: cut(value, MAX_VALUE) || undefined,
    setting: cut(setting, MAX_SETTING) || undefined,
  };
}

/** Return a line as text; bytes that are no UTF-8 are shown as such. */
export function textOfLine(raw: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(raw);
  } catch {
    return Array.from(raw, (byte) => {
      if (byte >= 32 && byte < 127) return String.fromCharCode(byte);
      return `\\x${byte.toString(16).padStart(2, "0")}`;
    }).join("");
  }
}

function cut(text: string, length: number): string {
  const characters = [...text];
  return characters.length <= length ? characters.join("") : `${characters.slice(0, length - 1).join("")}…`;
}

/** Metric of a board with its type, before a default is left out of its definition. */
export interface KnownMetric {
  metric: string;
  type: Metric["type"] | "float" | null;
  unit: string;
  label: string;
}

/** Return definitions with these that are new or have changed. A metric without a type has no value yet. */
export function withMetrics(metrics: readonly Metric[], news: readonly KnownMetric[]): Metric[] {
  const found = new Map(metrics.map((metric) => [metric.name, metric]));
  for (const { metric: name, type, unit, label } of news) {
    if (type === null) continue;
    const definition: Metric = { name };
    if (type !== "float") definition.type = type;
    if (unit !== "") definition.unit = cut(unit, 32);
    if (label !== "") definition.description = cut(label, MAX_DESCRIPTION);
    found.set(name, definition);
  }
  return [...found.values()];
}

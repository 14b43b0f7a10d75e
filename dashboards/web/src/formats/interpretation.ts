/** Interpretation: fields to readings, by one set of rules. Values are refused one by one. As interpretation.py. */

import { LargeNumber } from "../wire/exact_json";
import { MEASUREMENT } from "./line_protocol";
import { TimeRefused } from "./moments";
import { legalDevice, legalMetric, lookupIn, Template } from "./names";
import {
  type Entry,
  FrameRefused,
  type InputRecord,
  MAX_RAW_BYTES,
  type MetricType,
  quoted,
  type RawValue,
  type RefusedInput,
  type Row,
  refusalOf,
  type Schema,
  shown,
  type Value,
  ValueRefused,
} from "./record";
import type { Rules } from "./rules";
import { type InputSeries, SeriesValues } from "./series";
import { TimeReader } from "./times";
import { Column, cleaned, MAX_UNIT, NO_VALUE } from "./values";

const MAX_METRICS = 1024;
/** Devices of one input, the bound of one hub. */
const MAX_DEVICES = 100_000;
/** Names that a sentence proposes. */
const MAX_CANDIDATES = 20;

/** Fields that contain the time of a record by default. */
const TIME_FIELDS = "time timestamp ts datetime Time Timestamp _time TIME TIMESTAMP uptime_ms".split(" ");
const UPTIME_FIELD = "uptime_ms";
const NONE: ReadonlySet<string> = new Set();

/** Return the type that a metric of a device has already, null for a metric that is not known. */
export type KnownType = (device: string, metric: string) => MetricType | null;

interface RowTime {
  timeNs: bigint | null;
  isOdd: boolean;
  fields: readonly string[];
}

/** Interpreter of the records of one input, in their order. */
export class Interpreter {
  readonly metrics = new Map<string, Map<string, InputSeries>>();
  readonly series: SeriesValues;
  private readonly rules: Rules;
  private readonly times: TimeReader;
  private readonly device: Template | null;
  private readonly metric: Template | null;
  private readonly noValue: ReadonlySet<string>;
  private readonly knownType: KnownType;

  constructor(rules: Rules, knownType: KnownType = () => null) {
    this.rules = rules;
    this.knownType = knownType;
    this.series = new SeriesValues(rules.decimal);
    this.times = new TimeReader(rules.time_format, rules.zone, rules.ambiguous);
    this.device = rules.device === "" ? null : new Template(rules.device);
    this.metric = rules.metric === "" ? null : new Template(rules.metric);
    this.noValue = new Set([...NO_VALUE, ...rules.no_value.map((word) => word.trim().toLowerCase())]);
  }

  /** Decide from these records what the rules leave open: number marks, kinds, units, order of day and month. */
  learn(entries: readonly Entry[]): void {
    const columns = new Map<InputSeries, string[]>();
    const times: string[] = [];
    for (const record of entries) {
      if (record.kind === "refused") continue;
      if (typeof record.time === "string") times.push(record.time);
      const place = this.tryPlace(record);
      if (place === null) continue;
      for (const [name, raw] of record.values) {
        if (place.used.has(name) || typeof raw !== "string") continue;
        if (TIME_FIELDS.includes(name) || this.rules.time.includes(name)) times.push(raw);
        const series = this.trySeries(place, name, raw, record.schema);
        if (series === null || series.type === "string") continue;
        const texts = columns.get(series);
        if (texts === undefined) columns.set(series, [raw]);
        else texts.push(raw);
      }
    }
    this.times.learn(times);
    this.learnColumns(columns);
  }

  private learnColumns(columns: ReadonlyMap<InputSeries, string[]>): void {
    for (const [{ column }, texts] of columns) column.learn(texts);
    const marks = new Map<string, number>();
    for (const { column } of columns.keys())
      if (column.decimal !== "") marks.set(column.decimal, (marks.get(column.decimal) ?? 0) + 1);
    const most = Math.max(...marks.values());
    this.series.decimal ||= [...marks].find(([, count]) => count === most)?.[0] ?? "";
    for (const { column } of columns.keys()) column.adopt(this.series.decimal);
  }

  private tryPlace(record: InputRecord): Place | null {
    try {
      return this.placeOf(record);
    } catch (error) {
      if (error instanceof FrameRefused) return null;
      throw error;
    }
  }

  private trySeries(place: Place, name: string, raw: RawValue, schema: Schema): InputSeries | null {
    try {
      return this.seriesOf(place, name, raw, schema);
    } catch (error) {
      if (error instanceof ValueRefused) return null;
      throw error;
    }
  }

  /** Return the rows and the refusals of these records. */
  interpret(entries: Iterable<Entry>, nowNs: bigint): { rows: Row[]; refusals: RefusedInput[] } {
    const rows: Row[] = [];
    const refusals: RefusedInput[] = [];
    for (const entry of entries) {
      if (entry.kind === "refused") {
        refusals.push(entry);
        continue;
      }
      try {
        const row = this.row(entry, nowNs, refusals);
        if (row.values.size > 0) rows.push(row);
      } catch (error) {
        refusals.push(refusalOf(entry, error, error instanceof RowRefused ? error.value : ""));
      }
    }
    return { rows, refusals };
  }

  private row(record: InputRecord, nowNs: bigint, refusals: RefusedInput[]): Row {
    const place = this.placeOf(record);
    const { timeNs, isOdd, fields } = this.timeOf(record, place.device, nowNs);
    // A name beside the fields that is a part of the device leaves the field of that name a value.
    const skipped = new Set([...[...place.used].filter((name) => !record.names.has(name)), ...fields]);
    for (const { name, value, code, reason } of record.refused)
      if (skipped.has(name)) throw new RowRefused(code, reason, "", shown(value));
    const values = new Map<string, Value>();
    const refuse = (metric: string, raw: RawValue, { code, message: reason, setting }: ValueRefused) => {
      const cut = record.raw.subarray(0, MAX_RAW_BYTES);
      refusals.push({ kind: "refused", line: record.line, raw: cut, code, reason, metric, value: shown(raw), setting });
    };
    for (const { name, value, code, reason } of record.refused) {
      if (this.rules.columns.size > 0 && !this.rules.columns.has(name)) continue;
      refuse(legalMetric(this.wanted(place.prefix, name, record.schema)), value, new ValueRefused(code, reason));
    }
    for (const [name, raw] of record.values) {
      if (skipped.has(name)) continue;
      let metric = name;
      try {
        const series = this.seriesOf(place, name, raw, record.schema);
        if (series === null) continue;
        ({ metric } = series);
        this.checkUnit(series, record.schema.units.get(name) ?? "");
        const value = this.series.value(series, raw, record.schema);
        if (value === null) continue;
        if (values.has(metric))
          throw new ValueRefused("ambiguous", `two values of the record are the metric ${metric}`, "metric");
        values.set(metric, value);
      } catch (error) {
        if (!(error instanceof ValueRefused)) throw error;
        refuse(metric, raw, error);
      }
    }
    return { line: record.line, raw: record.raw, device: place.device, timeNs, values, isTimeOdd: isOdd };
  }

  private wanted(prefix: string, name: string, schema: Schema): string {
    const field = this.rules.columns.get(name) || (schema.metrics.get(name) ?? name);
    return prefix.replaceAll("{field}", () => field);
  }

  /** Return the device, the fields that are parts of names, and the prefix of the metrics. Throws FrameRefused. */
  private placeOf(record: InputRecord): Place {
    const { names, values, schema } = record;
    const used = new Set([...(this.metric?.fields ?? NONE)].filter((name) => !names.has(name)));
    const name = this.device === null ? this.ownName(record, used) : this.ruledName(record, this.device, used);
    const device = name === "" ? "" : legalDevice(name);
    if (!this.metrics.has(device)) {
      if (this.metrics.size >= MAX_DEVICES)
        throw new RowRefused(
          "limit",
          `the input has more than ${MAX_DEVICES} devices: is ${quoted(name)} one?`,
          "device",
        );
      this.metrics.set(device, new Map());
    }
    return { device, used, prefix: this.prefixOf(names, values, used), schema };
  }

  private ruledName({ names, values }: InputRecord, template: Template, used: Set<string>): string {
    const filled = template.fill(lookupIn(names, values));
    if ("missing" in filled) {
      const known = [...names.keys(), ...values.keys()].slice(0, MAX_CANDIDATES).join(", ");
      const reason = `the record has no ${filled.missing}, which names the device; it has ${known}`;
      throw new RowRefused("device", reason, "device");
    }
    for (const field of template.fields) used.add(field);
    return filled.name;
  }

  private ownName({ names, values, schema }: InputRecord, used: Set<string>): string {
    for (const field of schema.identity) {
      const value = names.get(field) || values.get(field);
      let name = "";
      if (typeof value === "string") name = cleaned(value);
      else if (typeof value === "number" || typeof value === "bigint") name = String(value);
      else if (value instanceof LargeNumber) name = value.text;
      if (name === "") continue;
      used.add(field);
      return name;
    }
    return schema.device;
  }

  /** Return the name of a metric with "{field}" in it, from names beside the fields. Throws FrameRefused. */
  private prefixOf(
    names: ReadonlyMap<string, string>,
    values: ReadonlyMap<string, RawValue>,
    used: ReadonlySet<string>,
  ): string {
    if (this.metric !== null) {
      const lookup = lookupIn(names, values);
      const filled = this.metric.fill((name) => (name === "field" ? "{field}" : lookup(name)));
      if ("name" in filled) return filled.name;
      const reason = `the record has no ${filled.missing}, which the name of the metric contains`;
      throw new RowRefused("metric", reason, "metric");
    }
    const measurement = names.get(MEASUREMENT);
    if (measurement === undefined) return "{field}";
    // Tags distinguish series: two disks of one host are two metrics.
    const tags = [...names].filter(([name]) => name !== MEASUREMENT && !used.has(name));
    tags.sort(([first], [second]) => (first < second ? -1 : 1));
    return [measurement, ...tags.map(([, value]) => value), "{field}"].join(".");
  }

  /** Return the series of a field, null for a field that is not stored. Throws ValueRefused. */
  private seriesOf(place: Place, name: string, raw: RawValue, schema: Schema): InputSeries | null {
    if (this.rules.columns.size > 0 && !this.rules.columns.has(name)) return null;
    const wanted = this.wanted(place.prefix, name, schema);
    const metric = legalMetric(wanted);
    const known = this.metrics.get(place.device) ?? new Map<string, InputSeries>();
    const series = known.get(metric);
    if (series !== undefined) return series;
    if (known.size >= MAX_METRICS)
      throw new ValueRefused("limit", `the device has more than ${MAX_METRICS} metrics`, "columns");
    const declared = schema.types.get(name) ?? (schema.integers && typeof raw === "bigint" ? "integer" : null);
    const created = this.newSeries(place.device, wanted, declared, schema.units.get(name) ?? "", schema.words);
    known.set(metric, created);
    return created;
  }

  private newSeries(device: string, wanted: string, declared: MetricType | null, written: string, words: boolean) {
    const { rules } = this;
    const metric = legalMetric(wanted);
    const ruled = rules.types.get(metric) ?? null;
    let type = ruled ?? declared;
    let isDeclared = type !== null;
    const known = this.knownType(device, metric);
    if (known !== null && type !== known && !(known === "integer" && type === "float"))
      [type, isDeclared] = [known, false];
    const unit = (rules.units.get(metric) || written).slice(0, MAX_UNIT);
    const kind = rules.numbers === "text" && !words ? "text" : null;
    const { decimal, thousands } = rules;
    const column = new Column({ decimal, thousands, words, kind, unit, noValue: this.noValue });
    const label = metric === wanted ? "" : wanted;
    const isRuled = isDeclared && ruled !== null;
    const series: InputSeries = { device, metric, label, unit, type, isDeclared, isRuled, column };
    this.series.news.add(series);
    return series;
  }

  /** Give a series without a unit the one that a record declares. Throws ValueRefused for another one. */
  private checkUnit(series: InputSeries, declared: string): void {
    const unit = declared.slice(0, MAX_UNIT);
    if (unit === "" || series.unit === unit || this.rules.units.has(series.metric)) return;
    if (series.unit !== "" && series.type !== null)
      throw new ValueRefused("unit", `the unit is ${unit}, and ${series.metric} has ${series.unit}`);
    series.column.unit = unit;
    this.series.setUnit(series, unit);
  }

  /** Return the time of a record. Throws FrameRefused. */
  private timeOf(record: InputRecord, device: string, nowNs: bigint): RowTime {
    const { values, schema } = record;
    let raw = record.time;
    let fields: readonly string[] = [];
    if (raw === null && this.rules.time.length > 0) {
      fields = this.rules.time;
      const texts = fields.map((name) => values.get(name) ?? null);
      const missing = fields.find((_, place) => texts[place] === null || texts[place] === "");
      if (missing !== undefined)
        throw new RowRefused("time", `the record has no ${missing}, which contains the time`, "time");
      raw = texts.length === 1 ? texts[0] : texts.join(" ");
    }
    if (raw === null) return this.timeAmong(values, device, nowNs);
    try {
      return { ...this.times.read(raw, nowNs, device, [...values.keys()], schema.timeFormat), fields };
    } catch (error) {
      if (!(error instanceof TimeRefused)) throw error;
      throw new RowRefused("time", error.message, error.setting || "time_format", shown(raw));
    }
  }

  /** Return the time in the first of the usual fields that has one. Throws FrameRefused if none of them has. */
  private timeAmong(values: ReadonlyMap<string, RawValue>, device: string, nowNs: bigint): RowTime {
    let refused: RowRefused | null = null;
    for (const name of TIME_FIELDS) {
      const raw = values.get(name) ?? null;
      if (raw === null || raw === "") continue;
      if (name === UPTIME_FIELD && this.rules.time_format !== UPTIME_FIELD) continue;
      try {
        return { ...this.times.read(raw, nowNs, device, [...values.keys()], "auto"), fields: [name] };
      } catch (error) {
        if (!(error instanceof TimeRefused)) throw error;
        if (this.rules.columns.has(name)) continue;
        const reason = `the field ${quoted(name)} has no time: ${error.message}; \`columns\` can store it as a value`;
        refused ??= new RowRefused("time", reason, error.setting || "time_format", shown(raw));
      }
    }
    if (refused !== null) throw refused;
    return { timeNs: null, isOdd: false, fields: [] };
  }
}

/** Names of a record: its device, the fields that are parts of names, and the prefix of its metrics. */
interface Place {
  device: string;
  used: ReadonlySet<string>;
  prefix: string;
  schema: Schema;
}

/** A record whose device or time is not known, so that none of its values has a place. */
class RowRefused extends FrameRefused {
  readonly value: string;
  constructor(code: FrameRefused["code"], reason: string, setting: string, value = "") {
    super(code, reason, setting);
    this.value = value;
  }
}

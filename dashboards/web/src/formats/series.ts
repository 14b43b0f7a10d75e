/** Series of an input, and the conversion of values to the type of their series. As series.py. */

import { LargeNumber, wholeNumber } from "../wire/exact_json";
import { type MetricType, type RawValue, type Schema, shown, type Value, ValueRefused } from "./record";
import {
  type Column,
  checkedInteger,
  cleaned,
  EXACT,
  INFINITE,
  integerOf,
  isChanged,
  truthOf,
  wholeOf,
  writtenNumber,
} from "./values";

const MAX_STRING_VALUE_BYTES = 64 * 1024;
/** Characters of a refused text that can be a word for no value, such as `defect`; longer ones are sentences. */
const MAX_WORD = 40;
const TYPE_WORDS: Record<MetricType, string> = {
  float: "a number",
  integer: "an integer",
  boolean: "a boolean",
  string: "a text",
};

/** One metric of one device: its name, type, unit and label, and the decisions about its values. */
export interface InputSeries {
  device: string;
  metric: string;
  /** The name as it was sent, if it was repaired. */
  label: string;
  unit: string;
  type: MetricType | null;
  /** The type comes from the rules or the format; `isRuled`: from the rules. */
  isDeclared: boolean;
  isRuled: boolean;
  column: Column;
}

/** Converter of the values of all series of one input. `news` are series that are new or have a new type or unit. */
export class SeriesValues {
  decimal: string;
  readonly news = new Set<InputSeries>();

  constructor(decimal: string) {
    this.decimal = decimal;
  }

  setType(series: InputSeries, type: MetricType): void {
    if (series.type === type) return;
    series.type = type;
    this.news.add(series);
  }

  setUnit(series: InputSeries, unit: string): void {
    if (series.unit === unit) return;
    series.unit = unit;
    this.news.add(series);
  }

  /** Return the value of a reading, null for no value. Throws ValueRefused. */
  value(series: InputSeries, raw: RawValue, schema: Schema): Value | null {
    if (raw instanceof LargeNumber) throw new ValueRefused("number", `'${shown(raw.text)}' is too large for a number`);
    const value = typeof raw === "string" ? this.fromText(series, raw, schema) : raw;
    if (value === null) return null;
    if (typeof value === "object")
      throw new ValueRefused("type", "the value is neither a number, a boolean nor a text");
    return this.typed(series, value, raw);
  }

  private fromText(series: InputSeries, raw: string, schema: Schema): Value | null {
    const bare = raw.replace(/^[\0\ufeff]+|[\0\ufeff]+$/g, "");
    if ((schema.typed || series.isDeclared) && (series.type === "string" || series.type === null)) return bare || null;
    const { column } = series;
    const text = cleaned(bare);
    const lowered = text.toLowerCase();
    if (column.noValue.has(lowered) || (INFINITE.has(lowered) && column.kind !== "text")) return null;
    if (series.type === null && column.kind === null) {
      column.learn([raw]);
      column.adopt(this.decimal);
    }
    if (series.type === "boolean" || (series.type === null && column.kind === "boolean")) {
      const truth = truthOf(text, series.isDeclared);
      if (truth !== null) return truth;
      if (!series.isDeclared && (text === "0" || text === "1")) return text === "1";
      throw new ValueRefused("type", `'${shown(text)}' is neither true nor false`, typeSetting(series, text));
    }
    if (series.type === "string" || (series.type === null && column.kind === "text")) return bare.trim();
    return this.fromNumber(series, text);
  }

  private fromNumber(series: InputSeries, text: string): Value {
    const { column } = series;
    const number = column.number(text);
    if (number === null) throw new ValueRefused("type", `'${shown(text)}' is not a number`, typeSetting(series, text));
    if (column.unit !== "" && series.unit === "") this.setUnit(series, column.unit);
    if (series.type === "integer") return series.isRuled || Number.isInteger(number) ? integerOf(number, text) : number;
    const whole = Math.abs(number) < EXACT ? null : wholeOf(text);
    if (whole !== null) checkDigits(series, whole, number);
    return number;
  }

  /** Return the value in the type of its series, which the first value sets. Throws ValueRefused. */
  private typed(series: InputSeries, value: Value, raw: RawValue): Value {
    const expected = series.type;
    if (typeof value === "boolean") {
      if (expected === "boolean" || expected === null) {
        this.setType(series, "boolean");
        return value;
      }
      if (expected === "string" && series.isRuled) return String(value);
    } else if (typeof value === "string") {
      if (expected === "string" || expected === null) {
        this.setType(series, "string");
        return checkedText(value);
      }
    } else if (expected === "float" || expected === null) {
      const number = Number(value);
      if (!Number.isFinite(number)) throw new ValueRefused("number", "the number is too large");
      if (typeof value === "bigint") checkDigits(series, value, number);
      this.setType(series, "float");
      return number;
    } else if (expected === "integer") return this.integer(series, value);
    else if (expected === "boolean" && series.isDeclared && (Number(value) === 0 || Number(value) === 1))
      return Number(value) === 1;
    else if (expected === "string" && series.isDeclared) return checkedText(String(raw));
    const kind = typeof value === "boolean" ? "a boolean" : typeof value === "string" ? "a text" : "a number";
    const reason = `${series.metric} is ${TYPE_WORDS[expected ?? "string"]}, and '${shown(value)}' is ${kind}`;
    throw new ValueRefused("type", reason, typeSetting(series, raw));
  }

  private integer(series: InputSeries, value: number | bigint): Value {
    if (typeof value === "bigint" || Number.isSafeInteger(value))
      return wholeNumber(checkedInteger(BigInt(value), shown(value)));
    if (series.isRuled)
      throw new ValueRefused("type", `'${shown(value)}' is not an integer`, `types.${series.metric} = "float"`);
    this.setType(series, "float");
    return value;
  }
}

/** Return what makes a value a text, and for a short text also what makes it no value. */
function typeSetting(series: InputSeries, raw: RawValue): string {
  const change = `types.${series.metric} = "string"`;
  const word = typeof raw === "string" ? cleaned(raw) : "";
  if (word === "" || word.length > MAX_WORD || writtenNumber(word) !== null) return change;
  return `no_value = ["${word}"] or ${change}`;
}

/** Throw ValueRefused for a whole number that a float would change. */
function checkDigits(series: InputSeries, whole: bigint, number: number): void {
  if (Math.abs(number) < EXACT || !isChanged(whole, number)) return;
  const reason = `'${shown(whole)}' has more digits than a float keeps`;
  throw new ValueRefused("number", reason, `types.${series.metric} = "integer" or types.${series.metric} = "string"`);
}

function checkedText(text: string): string {
  if (text.length * 3 > MAX_STRING_VALUE_BYTES && new TextEncoder().encode(text).length > MAX_STRING_VALUE_BYTES)
    throw new ValueRefused("size", `the text is longer than ${MAX_STRING_VALUE_BYTES} bytes`);
  return text;
}

/** The settings that decide how foreign data is read, under the names that every input has. As rules.py. */

import { DATE_ORDERS } from "./moments";
import type { MetricType } from "./record";
import { TIME_WORDS } from "./times";
import { type Ambiguous, isZone } from "./zones";

/** Formats that the browser reads. */
export const READ_FORMATS = ["auto", "json", "senml", "line", "csv", "pairs", "plotter", "nmea", "value"] as const;
export type ReadFormat = (typeof READ_FORMATS)[number];
/** Formats of docs/formats.md that only the agent and the hub read. */
export const UNREAD_FORMATS = ["signalk", "rtl_433", "gpsd", "regex", "modbus", "function"] as const;

/** Rules that cannot be applied; the message says which setting to change. */
export class RulesError extends Error {}

/** Settings of one input. An empty setting is decided by evidence in the data. */
export interface Rules {
  format: ReadFormat;
  encoding: string;
  delimiter: string;
  header: boolean | null;
  device: string;
  metric: string;
  measurements: readonly string[];
  metric_column: string;
  value_column: string;
  columns: ReadonlyMap<string, string>;
  time: readonly string[];
  time_format: string;
  zone: string;
  ambiguous: Ambiguous;
  no_value: readonly string[];
  decimal: "" | "." | ",";
  thousands: "" | "." | "," | " " | "'";
  numbers: "auto" | "text";
  types: ReadonlyMap<string, MetricType>;
  units: ReadonlyMap<string, string>;
}

export const DEFAULT_RULES: Rules = {
  format: "auto",
  encoding: "auto",
  delimiter: "",
  header: null,
  device: "",
  metric: "",
  measurements: [],
  metric_column: "",
  value_column: "",
  columns: new Map(),
  time: [],
  time_format: "auto",
  zone: "",
  ambiguous: "order",
  no_value: [],
  decimal: "",
  thousands: "",
  numbers: "auto",
  types: new Map(),
  units: new Map(),
};

/** Return the rules with these fields of a settings file or of JSON. Throws RulesError for those that are not read here. */
export function rulesOf(fields: Record<string, unknown>): Rules {
  const rules: Record<string, unknown> = { ...DEFAULT_RULES };
  for (const [name, value] of Object.entries(fields)) {
    if (
      name === "pattern" ||
      name === "modbus" ||
      (name === "format" && UNREAD_FORMATS.some((format) => format === value))
    )
      throw new RulesError(`${name} ${JSON.stringify(value)} is not read in the browser: use device-agent serial`);
    if (!(name in DEFAULT_RULES)) throw new RulesError(`there is no setting ${name}`);
    if (DEFAULT_RULES[name as keyof Rules] instanceof Map) rules[name] = new Map(Object.entries(value as object));
    else if (name === "time") rules.time = typeof value === "string" ? [value] : value;
    else rules[name] = value;
  }
  const found = rules as unknown as Rules;
  const [word] = found.time;
  const isWord =
    found.time.length === 1 && word !== "auto" && TIME_WORDS.includes(word) && found.time_format === "auto";
  return checked(isWord ? { ...found, time: [], time_format: word } : found);
}

function checked(rules: Rules): Rules {
  if (!READ_FORMATS.includes(rules.format)) throw new RulesError(`the format ${rules.format} is unknown`);
  if (!TIME_WORDS.includes(rules.time_format))
    throw new RulesError(`time_format ${rules.time_format} is not read in the browser: use ${DATE_ORDERS.join(", ")}`);
  if (rules.zone !== "" && !isZone(rules.zone))
    throw new RulesError(`the zone ${rules.zone} is unknown: use a name like Europe/Berlin`);
  if (rules.thousands !== "" && rules.thousands === rules.decimal)
    throw new RulesError("decimal and thousands are the same character");
  return rules;
}

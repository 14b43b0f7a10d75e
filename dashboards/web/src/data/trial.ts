/** The page “Try it”: content that is read by the hub and not stored. */

import type { QuarantinedMessage, Rules, TrialResult, TriedMetric, TriedRow } from "../wire/api";
import { request } from "./api";

/** Bytes of content in one trial: a request to the hub has at most 64 KiB, and JSON escapes some characters. */
export const MAX_CONTENT_BYTES = 48 * 1024;

/** Formats to choose from, with their names for people. */
export const FORMATS: [string, string][] = [
  ["auto", "Detect the format"],
  ["json", "JSON"],
  ["senml", "SenML"],
  ["signalk", "Signal K"],
  ["rtl_433", "rtl_433, OpenMQTTGateway"],
  ["gpsd", "gpsd"],
  ["line", "InfluxDB line protocol"],
  ["csv", "CSV and tables"],
  ["pairs", "Pairs: temp=21.5"],
  ["plotter", "Arduino Serial Plotter"],
  ["nmea", "NMEA 0183"],
  ["value", "One bare value"],
  ["regex", "Regular expression"],
];

/** Decimal marks to choose from, with their names. */
export const DECIMAL_MARKS: [string, string][] = [
  ["", "By evidence"],
  [".", "Point"],
  [",", "Comma"],
];
/** Marks between thousands to choose from, with their names. */
export const THOUSANDS_MARKS: [string, string][] = [...DECIMAL_MARKS, [" ", "Space"], ["'", "Apostrophe"]];

/** The settings that a person chooses; an empty one is decided by the data. */
export interface Settings {
  format: string;
  device: string;
  zone: string;
  decimal: string;
  thousands: string;
  timeFormat: string;
  /** `metric=type`, separated by commas. */
  types: string;
  /** Words that are no value, separated by commas. */
  noValue: string;
  pattern: string;
}

export const NO_SETTINGS: Settings = {
  format: "auto",
  device: "",
  zone: "",
  decimal: "",
  thousands: "",
  timeFormat: "",
  types: "",
  noValue: "",
  pattern: "",
};

/** Lines to begin with, one example of each kind of sender. */
export const EXAMPLES: [string, string][] = [
  [
    "JSON",
    '{"device":"boiler-1","temperature":21.5,"burner":{"on":true,"power":"12.4 kW"}}\n{"device":"boiler-1","temperature":"unavailable","burner":{"on":false,"power":"0 kW"}}\n',
  ],
  [
    "CSV",
    "Datum;Uhrzeit;Temperatur [°C];Feuchte\n28.11.2026;15:05;21,5;40\n28.11.2026;15:06;21,75;41\n28.11.2026;15:07;---;42\n",
  ],
  [
    "NMEA",
    "$GPRMC,150542.00,A,5231.2000,N,01324.6000,E,4.20,84.4,281126,,,A*5C\n$GPVTG,84.4,T,,M,4.20,N,7.8,K*61\n$IIMTW,18.5,C*1F\n",
  ],
  ["Serial Plotter", "temp:21.5,hum:40\ntemp:21.6,hum:nan\ntemp:21.6,hum:41\n"],
  [
    "SenML",
    '[{"bn":"urn:dev:ow:10e2073a01080063:","bt":1795878000,"n":"temp","u":"Cel","v":23.1},{"n":"hum","u":"%RH","v":41.2}]\n',
  ],
  [
    "Line protocol",
    "weather,host=roof temperature=21.5,humidity=40i 1795878000000000000\nweather,host=roof wind=3.4\n",
  ],
];

/** Content to try: text, or the bytes of a file that is no text. */
export type Content = { text: string } | { name: string; size: number; base64: string };

/** The body of a request. Settings that are left out are decided by the content. */
export interface TrialRequest {
  content: string;
  base64?: boolean;
  rules: Partial<Rules>;
}

/** Return the body of a request. */
export function trialBody(content: Content, settings: Settings): TrialRequest {
  const { format, device, zone, decimal, thousands, timeFormat, types, noValue, pattern } = settings;
  const chosen = {
    format: format === "auto" ? "" : format,
    device: device.trim(),
    zone: zone.trim(),
    decimal,
    thousands,
    time_format: timeFormat.trim(),
    pattern: format === "regex" ? pattern : "",
  };
  const rules = Object.fromEntries(Object.entries(chosen).filter(([, value]) => value !== "")) as Partial<Rules>;
  const pairs = itemsOf(types).map((pair) => pair.split("=", 2).map((part) => part.trim()));
  if (pairs.length > 0)
    rules.types = Object.fromEntries(pairs.map(([metric, type = ""]) => [metric, type])) as Rules["types"];
  if (itemsOf(noValue).length > 0) rules.no_value = itemsOf(noValue);
  return "text" in content ? { content: content.text, rules } : { content: content.base64, base64: true, rules };
}

function itemsOf(list: string): string[] {
  return list
    .split(",")
    .map((item) => item.trim())
    .filter((item) => item !== "");
}

/** Return the text of an entry in quarantine: what a broker or a source sent, or else the message of the agent. */
export function textOf({ raw, text }: Pick<QuarantinedMessage, "raw" | "text">): string {
  return raw ?? text;
}

/** Read content on the hub. Throws ApiError. */
export function tryContent(body: TrialRequest, signal: AbortSignal): Promise<TrialResult> {
  return request("POST", "/try", body, signal);
}

/** Return the beginning of a text that one trial can have: whole lines, and the number of lines that are left out. */
export function beginningOf(text: string): { text: string; leftOut: number } {
  const bytes = new TextEncoder().encode(text);
  if (bytes.length <= MAX_CONTENT_BYTES) return { text, leftOut: 0 };
  const head = new TextDecoder().decode(bytes.subarray(0, MAX_CONTENT_BYTES));
  const end = head.lastIndexOf("\n") + 1;
  const kept = end > 0 ? text.slice(0, end) : head.replace(/\ufffd+$/, "");
  return { text: kept, leftOut: text.slice(kept.length).replace(/\n$/, "").split("\n").length };
}

/** Return the content of a file: text if it is UTF-8, and its bytes otherwise. Null for bytes that are too many. */
export function contentOfBytes(name: string, bytes: Uint8Array, isWhole: boolean): Content | null {
  // A part of a file may end within a character.
  for (let cut = 0; cut <= (isWhole ? 0 : 3); cut++) {
    try {
      const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(0, bytes.length - cut));
      if (!text.includes("\0")) return { text };
    } catch {
      // No text, or cut within a character.
    }
  }
  if (!isWhole || bytes.length > (MAX_CONTENT_BYTES * 3) / 4) return null;
  return { name, size: bytes.length, base64: btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join("")) };
}

/** One reading of a row, with what its metric has. */
export interface Reading {
  line: number;
  device: string;
  timeNs: number | null;
  isTimeOdd: boolean;
  metric: string;
  value: TriedRow["values"][string];
  unit: string;
  type: string;
}

/** Return the first readings of a result. */
export function firstReadings({ first_rows, metrics }: TrialResult, most: number): Reading[] {
  const known = new Map(metrics.map((metric) => [keyOf(metric.device, metric.metric), metric]));
  const readings: Reading[] = [];
  for (const row of first_rows) {
    for (const [metric, value] of Object.entries(row.values)) {
      if (readings.length >= most) return readings;
      const found: TriedMetric | undefined = known.get(keyOf(row.device, metric));
      const { line, device, time_ns: timeNs, odd_time: isTimeOdd } = row;
      readings.push({
        line,
        device,
        timeNs,
        isTimeOdd,
        metric,
        value,
        unit: found?.unit ?? "",
        type: found?.type ?? "",
      });
    }
  }
  return readings;
}

function keyOf(device: string, metric: string): string {
  return `${device}\n${metric}`;
}

/** The inputs that take the settings, with what to write there. */
export function inputsFor(settings: string): { input: string; text: string }[] {
  const rules = settings.trim();
  const options = rules === "" ? "" : " --rules rules.toml";
  return [
    {
      input: "A file: a dry run; without --dry-run its readings are stored",
      text: `hub import log.txt${options} --dry-run`,
    },
    { input: "A serial port", text: `device-agent serial /dev/ttyUSB0${options}` },
  ];
}

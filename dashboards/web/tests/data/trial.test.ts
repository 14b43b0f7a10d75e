import { describe, expect, it } from "vitest";
import {
  beginningOf,
  contentOfBytes,
  firstReadings,
  inputsFor,
  MAX_CONTENT_BYTES,
  NO_SETTINGS,
  textOf,
  trialBody,
} from "../../src/data/trial";
import type { TrialResult } from "../../src/wire/api";

const RESULT: TrialResult = {
  container: "",
  format: "json",
  reason: "every line is an object",
  lines: 2,
  rows: 2,
  readings: 3,
  no_values: 0,
  odd_times: 1,
  refused: {},
  first_rows: [
    { line: 1, device: "boiler", time_ns: null, odd_time: false, values: { temp: 21.5, on: true } },
    { line: 2, device: "pump", time_ns: 5, odd_time: true, values: { temp: 3 } },
  ],
  refusals: [],
  metrics: [
    { device: "boiler", metric: "temp", type: "float", unit: "°C", label: "" },
    { device: "boiler", metric: "on", type: "boolean", unit: "", label: "" },
  ],
  labels: {},
  notes: [],
  settings: "",
};

describe("trialBody", () => {
  it("has only what a person has chosen", () => {
    expect(trialBody({ text: "1" }, NO_SETTINGS)).toEqual({ content: "1", rules: {} });
    const settings = {
      ...NO_SETTINGS,
      format: "csv",
      device: " boiler ",
      decimal: ",",
      timeFormat: "ms",
      pattern: "x",
    };
    expect(trialBody({ text: "1" }, settings).rules).toEqual({
      format: "csv",
      device: "boiler",
      decimal: ",",
      time_format: "ms",
    });
  });

  it("has the types and the words without a value, as a person writes lists", () => {
    const settings = { ...NO_SETTINGS, types: "level = string, count=integer,", noValue: " defekt , ERR" };
    expect(trialBody({ text: "1" }, settings).rules).toEqual({
      types: { level: "string", count: "integer" },
      no_value: ["defekt", "ERR"],
    });
  });

  it("has the pattern of a regular expression, and bytes in base64", () => {
    const settings = { ...NO_SETTINGS, format: "regex", pattern: "(?P<a>.)" };
    expect(trialBody({ name: "x", size: 1, base64: "AA==" }, settings)).toEqual({
      content: "AA==",
      base64: true,
      rules: { format: "regex", pattern: "(?P<a>.)" },
    });
  });
});

describe("beginningOf", () => {
  it("keeps what fits", () => {
    expect(beginningOf("a\nb\n")).toEqual({ text: "a\nb\n", leftOut: 0 });
  });

  it("ends with a whole line, and counts the others", () => {
    const line = `${"ä".repeat(99)}\n`;
    const found = beginningOf(line.repeat(400));
    const kept = Math.floor(MAX_CONTENT_BYTES / 199);
    expect(found).toEqual({ text: line.repeat(kept), leftOut: 400 - kept });
  });

  it("cuts a single long line between characters", () => {
    const { text, leftOut } = beginningOf("€".repeat(MAX_CONTENT_BYTES));
    expect(text).toBe("€".repeat(MAX_CONTENT_BYTES / 3));
    expect(leftOut).toBe(1);
  });
});

describe("contentOfBytes", () => {
  const utf8 = new TextEncoder();

  it("is text for UTF-8, also if a part ends within a character", () => {
    expect(contentOfBytes("x", utf8.encode("21,5 °C"), true)).toEqual({ text: "21,5 °C" });
    expect(contentOfBytes("x", utf8.encode("°C°").subarray(0, 4), false)).toEqual({ text: "°C" });
  });

  it("is the bytes of everything else, if they fit", () => {
    expect(contentOfBytes("x.gz", new Uint8Array([31, 139, 8, 255]), true)).toEqual({
      name: "x.gz",
      size: 4,
      base64: "H4sI/w==",
    });
    expect(contentOfBytes("x.gz", new Uint8Array(MAX_CONTENT_BYTES).fill(255), true)).toBeNull();
    expect(contentOfBytes("x.gz", new Uint8Array(9).fill(255), false)).toBeNull();
  });
});

describe("firstReadings", () => {
  it("has a line for each value, with the unit and type of its metric", () => {
    const readings = firstReadings(RESULT, 10);
    expect(readings.map(({ device, metric, value, unit, type }) => [device, metric, value, unit, type])).toEqual([
      ["boiler", "temp", 21.5, "°C", "float"],
      ["boiler", "on", true, "", "boolean"],
      ["pump", "temp", 3, "", ""],
    ]);
    expect(readings[2]).toMatchObject({ line: 2, timeNs: 5, isTimeOdd: true });
  });

  it("is bounded", () => {
    expect(firstReadings(RESULT, 2)).toHaveLength(2);
  });
});

describe("inputsFor", () => {
  it("needs a file of rules only if there are some", () => {
    expect(inputsFor("\n").some(({ text }) => text.includes("--rules"))).toBe(false);
    expect(inputsFor('format = "csv"\n').every(({ text }) => text.includes("--rules rules.toml"))).toBe(true);
  });
});

describe("textOf", () => {
  it("is what a broker or a source sent, if the entry has it", () => {
    expect(textOf({ raw: "temp=high", text: '{"topic": "t"}' })).toBe("temp=high");
    expect(textOf({ raw: null, text: '{"type": "data"}' })).toBe('{"type": "data"}');
  });
});

import { describe, expect, it } from "vitest";
import { RulesError, rulesOf } from "../../src/formats/rules";
import { bytesOf, FRAMES, plainRows, read } from "./golden";

/** Golden frames of formats that only the agent and the hub read. */
const UNREAD = [
  "regex",
  "signal k delta",
  "signal k metadata",
  "rtl_433 message",
  "openmqttgateway bluetooth",
  "modbus registers",
  "extended annotated csv",
  "gpsd report",
];

const readable = FRAMES.filter(({ name }) => !UNREAD.includes(name));

describe("golden frames", () => {
  it.each(readable.map((frame) => [frame.name, frame] as const))("%s", (_, frame) => {
    const { rows, refusals, reading } = read(bytesOf(frame), frame.rules);
    expect(plainRows(rows)).toEqual(frame.rows);
    expect(refusals.map(({ line, code, metric }) => ({ line, code, metric }))).toEqual(frame.refusals);
    const units = new Map(
      [...reading.interpreter.metrics.values()].flatMap((known) =>
        [...known.values()].map(({ metric, unit }): [string, string] => [metric, unit]),
      ),
    );
    for (const [metric, unit] of Object.entries(frame.units)) expect(units.get(metric)).toBe(unit);
  });

  it("refuses the formats that the browser does not read as such, and reads none of their values", () => {
    expect(FRAMES.map(({ name }) => name)).toEqual(expect.arrayContaining(UNREAD));
    for (const frame of FRAMES.filter(({ name }) => UNREAD.includes(name))) {
      try {
        rulesOf(frame.rules);
      } catch (error) {
        expect(error).toBeInstanceOf(RulesError);
        expect(String(error)).toContain("is not read in the browser");
        continue;
      }
      const { rows, refusals } = read(bytesOf(frame), frame.rules);
      expect(rows).toEqual([]);
      for (const { code, reason } of refusals)
        expect([code, reason]).toEqual(["format", expect.stringContaining("is not read in the browser")]);
      expect(refusals.length, frame.name).toBeGreaterThan(0);
    }
  });

  it("gives the same wherever the bytes are cut", () => {
    for (const frame of readable) {
      const raw = bytesOf(frame);
      const whole = read(raw, frame.rules);
      for (const pieces of [[1], [3, 1, 7]]) {
        const { rows, refusals } = read(raw, frame.rules, pieces);
        expect(plainRows(rows), frame.name).toEqual(plainRows(whole.rows));
        expect(refusals, frame.name).toEqual(whole.refusals);
      }
    }
  });
});

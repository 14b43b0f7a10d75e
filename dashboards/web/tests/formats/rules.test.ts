import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { DEFAULT_RULES, READ_FORMATS, RulesError, rulesOf, UNREAD_FORMATS } from "../../src/formats/rules";
import { ROOT } from "./golden";

const SOURCE = readFileSync(`${ROOT}formats/rules.py`, "utf8");
const part = (begin: string, end: string) =>
  SOURCE.slice(SOURCE.indexOf(begin), SOURCE.indexOf(end, SOURCE.indexOf(begin)));

describe("rules", () => {
  it("have the names of those in Python, except for what the browser refuses", () => {
    const names = [...part("class Rules(", "DEFAULT_RULES").matchAll(/^ {4}([a-z_]+): /gm)].map(([, name]) => name);
    expect([...Object.keys(DEFAULT_RULES), "pattern", "modbus"].sort()).toEqual(names.sort());
  });

  it("have the formats of those in Python, and refuse by name what the browser does not read", () => {
    const formats = [...part("Format = Literal[", "]").matchAll(/"([a-z_0-9]+)"/g)].map(([, name]) => name);
    expect([...READ_FORMATS, ...UNREAD_FORMATS].sort()).toEqual(formats.sort());
    for (const format of UNREAD_FORMATS) expect(() => rulesOf({ format })).toThrow("not read in the browser");
    expect(() => rulesOf({ pattern: "(?P<a>.)" })).toThrow("not read in the browser");
  });

  it.each([
    [{ colour: "red" }, "there is no setting colour"],
    [{ zone: "Berlin" }, "use a name like Europe/Berlin"],
    [{ time_format: "%Y" }, "is not read in the browser"],
    [{ decimal: ",", thousands: "," }, "the same character"],
    [{ format: "xml" }, "the format xml is unknown"],
  ])("refuse %o", (fields, message) => {
    expect(() => rulesOf(fields)).toThrow(RulesError);
    expect(() => rulesOf(fields)).toThrow(message);
  });

  it("accept a word of time_format as the time", () => {
    expect(rulesOf({ time: "ms" })).toMatchObject({ time: [], time_format: "ms" });
    expect(rulesOf({ time: "stamp" })).toMatchObject({ time: ["stamp"], time_format: "auto" });
  });
});

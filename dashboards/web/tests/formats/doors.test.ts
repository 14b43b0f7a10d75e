/** The browser is a door: it makes of each value and time in docs/formats.md what every door makes of it. */

import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { Reading } from "../../src/formats/reading";
import { rulesOf } from "../../src/formats/rules";
import { NOW_NS, ROOT } from "./golden";

const DOCUMENT = readFileSync(`${ROOT}docs/formats.md`, "utf8");

/** Return the rows of the table whose first column has this name: what is sent, and what every door makes of it. */
function table(name: string): [sent: string, result: string][] {
  const lines = DOCUMENT.split("\n");
  const start = lines.findIndex((line) => line.startsWith(`| ${name} |`)) + 2;
  const rows = lines.slice(start, lines.indexOf("", start)).map((line) => line.split("|"));
  return rows.map(([, sent, result]) => [sent.trim().slice(1, -1), result.trim()]);
}

/** Return what a port that sends this line makes of it. */
function read(line: string) {
  const reading = new Reading(rulesOf({ zone: "Europe/Berlin" }));
  const raw = new TextEncoder().encode(line);
  if (!reading.begin([raw])) throw new Error(`no format: ${line}`);
  return reading.message(raw, NOW_NS);
}

/** Return the value of the member `v` as the document writes it. */
function outcome(line: string): string {
  const { rows, refusals } = read(line);
  if (refusals.length > 0) return "refused";
  const value = rows[0].values.get("v");
  if (value === undefined) return "no value";
  return typeof value === "string" ? `text "${value}"` : String(value);
}

/** Return a result of the document, with a number as JavaScript writes it. */
const written = (result: string) => (/^[-0-9]/.test(result) ? String(Number(result)) : result);

describe("tables of docs/formats.md", () => {
  it.each(table("member of JSON"))("JSON %s is %s", (sent, result) => {
    expect(outcome(`{"w":1,"v":${sent}}`)).toBe(written(result));
  });

  it.each(table("value of a pair"))("the pair %s is %s", (sent, result) => {
    expect(outcome(`w=1 v=${sent}`)).toBe(written(result));
  });

  it.each(table("time, in the zone Europe/Berlin"))("the time %s is %s", (sent, result) => {
    const { rows, refusals } = read(`{"time":${sent},"v":1}`);
    if (result === "refused") {
      expect(refusals.map(({ code }) => code)).toEqual(["time"]);
      return;
    }
    const { timeNs } = rows[0];
    const [, fraction = ""] = /\.(\d+)Z/.exec(result) ?? [];
    const seconds = BigInt(Date.parse(result.replace(/\.\d+Z/, "Z"))) / 1000n;
    expect(timeNs).toBe(seconds * 1_000_000_000n + BigInt(fraction.padEnd(9, "0")));
  });

  it("are all there", () => {
    expect(
      ["member of JSON", "value of a pair", "time, in the zone Europe/Berlin"].map((name) => table(name).length),
    ).toEqual([25, 14, 24]);
  });
});

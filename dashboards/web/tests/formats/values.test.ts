import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { legalDevice } from "../../src/formats/names";
import { sha256 } from "../../src/formats/sha256";
import { UNITS, unitSymbol } from "../../src/formats/units";
import { INFINITE, NO_VALUE } from "../../src/formats/values";
import { ROOT } from "./golden";

const SOURCE = readFileSync(`${ROOT}formats/values.py`, "utf8");

/** Return the texts in quotes behind a name in the Python module, up to a mark. */
function texts(name: string, end: string): string[] {
  const start = SOURCE.indexOf(`\n${name} = `);
  const part = SOURCE.slice(start, SOURCE.indexOf(end, start));
  return [...part.matchAll(/"((?:[^"\\]|\\.)*)"/g)].map(([, text]) => JSON.parse(`"${text}"`) as string);
}

describe("lists that Python and the page share", () => {
  it("of units", () => {
    expect([...UNITS].sort()).toEqual([...new Set(texts("UNITS", "))"))].sort());
  });

  it("of the symbols of units", () => {
    const pairs = texts("UNIT_SYMBOLS", "}");
    expect(pairs.length).toBeGreaterThan(90);
    for (let at = 0; at < pairs.length; at += 2) expect(unitSymbol(pairs[at])).toBe(pairs[at + 1]);
  });

  it("of words without a value", () => {
    expect([...NO_VALUE].sort()).toEqual(texts("NO_VALUE", "))").sort());
    expect([...INFINITE].sort()).toEqual(texts("INFINITE", "\n)").sort());
  });
});

describe("names", () => {
  it("have the hash of SHA-256", () => {
    const bytes = (text: string) => new TextEncoder().encode(text);
    expect(sha256(bytes("abc"))).toBe("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    expect(sha256(bytes("a".repeat(1000)))).toBe("41edece42d63e8d9bf515a9ba6932e1c20cbc9f5a5d134645adb5db1b9737ea3");
    expect(legalDevice("urn:dev:1:")).toBe("urn_dev_1_-9cb9957c8778");
  });
});

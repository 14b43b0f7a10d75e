import { describe, expect, it } from "vitest";
import { candidatesOf, type Selectable, selectionOf, suggestionsOf, termsOf } from "../../src/data/selection";

const FLEET: Selectable[] = [
  { device: "vehicle-010", tags: { type: "vehicle", site: "Plant north" } },
  { device: "vehicle-002", tags: { type: "vehicle" } },
  { device: "pump-1", tags: { type: "pump" } },
  { device: "gate", tags: {} },
];

describe("termsOf", () => {
  it("separates by spaces and commas, and keeps each term once", () => {
    expect(termsOf(" vehicle-*,  type=vehicle vehicle-* ")).toEqual(["vehicle-*", "type=vehicle"]);
    expect(termsOf(" ")).toEqual([]);
  });
});

describe("suggestions", () => {
  const candidates = candidatesOf(FLEET);
  it("begins with tags and ids that several devices share", () => {
    expect(suggestionsOf(candidates, "", [])).toEqual([
      { term: "type=vehicle", devices: 2 },
      { term: "vehicle-*", devices: 2 },
    ]);
    expect(suggestionsOf(candidates, "", ["vehicle-*"]).map(({ term }) => term)).toEqual(["type=vehicle"]);
  });

  it("has what contains the text, ids in their order", () => {
    const terms = (text: string) => suggestionsOf(candidates, text, []).map(({ term }) => term);
    expect(terms("VEH*")).toEqual(["type=vehicle", "vehicle-*", "vehicle-002", "vehicle-010"]);
    expect(terms("north")).toEqual(["site=Plant north"]);
    expect(terms("gate")).toEqual([]);
  });

  it("is short", () => {
    const many = Array.from({ length: 1000 }, (_, index) => ({ device: `d-${index}`, tags: {} }));
    expect(suggestionsOf(candidatesOf(many), "d", [])).toHaveLength(8);
  });
});

describe("selectionOf", () => {
  const shown = (...devices: string[]) => FLEET.filter(({ device }) => devices.includes(device));
  it("selects exactly what the fleet shows, by a tag before ids", () => {
    expect(selectionOf("vehicle", shown("vehicle-010", "vehicle-002"), FLEET)).toEqual(["type=vehicle"]);
    expect(selectionOf("-0", shown("vehicle-010", "vehicle-002"), FLEET)).toEqual(["*-0*"]);
  });

  it("is empty where no selection shows the same", () => {
    expect(selectionOf("", FLEET, FLEET)).toEqual([]);
    expect(selectionOf("vehicle pump", FLEET, FLEET)).toEqual([]);
    expect(selectionOf("vhcl", shown("vehicle-010", "vehicle-002"), FLEET)).toEqual([]);
    expect(selectionOf("none", [], FLEET)).toEqual([]);
  });
});

import { describe, expect, it } from "vitest";
import { searchItems, virtualWindow } from "../../src/ui/list";

const names = ["pump-01", "pump-02", "weather-01", "hall-pump", "this-computer"];
const find = (words: string) => searchItems(names, words, (name) => name);

describe("match", () => {
  it("finds words in any order, matches at the start first", () => {
    expect(find("pump")).toEqual(["pump-01", "pump-02", "hall-pump"]);
    expect(find("01 pump")).toEqual(["pump-01"]);
  });

  it("finds letters in order", () => {
    expect(find("wthr")).toEqual(["weather-01"]);
  });

  it("returns everything without words, and nothing without a match", () => {
    expect(find("  ")).toEqual(names);
    expect(find("xyz")).toEqual([]);
  });
});

describe("virtualWindow", () => {
  it("contains the visible rows and some around them", () => {
    expect(virtualWindow(10_000, 50, 5000, 500, 2)).toEqual({ first: 98, end: 112, height: 500_000 });
  });

  it("covers the view at every scroll position and stays within the list", () => {
    for (let top = -300; top < 60_000; top += 37) {
      const { first, end } = virtualWindow(1000, 56, top, 900);
      expect(first).toBeGreaterThanOrEqual(0);
      expect(end).toBeLessThanOrEqual(1000);
      expect(first * 56).toBeLessThanOrEqual(Math.max(0, top));
      if (top + 900 < 56_000) expect(end * 56).toBeGreaterThanOrEqual(top + 900);
      expect(end - first).toBeLessThan(40);
    }
  });

  it("is empty for an empty list", () => {
    expect(virtualWindow(0, 56, 0, 900)).toEqual({ first: 0, end: 0, height: 0 });
  });
});

import { describe, expect, it } from "vitest";
import { match } from "../../src/ui/match";

const names = ["pump-01", "pump-02", "weather-01", "hall-pump", "this-computer"];
const find = (words: string) => match(names, words, (name) => name);

describe("match", () => {
  it("finds by words in any order, beginnings first", () => {
    expect(find("pump")).toEqual(["pump-01", "pump-02", "hall-pump"]);
    expect(find("01 pump")).toEqual(["pump-01"]);
  });

  it("finds by letters in order", () => {
    expect(find("wthr")).toEqual(["weather-01"]);
  });

  it("gives all when nothing is asked, and nothing when nothing fits", () => {
    expect(find("  ")).toEqual(names);
    expect(find("xyz")).toEqual([]);
  });
});

import { describe, expect, it } from "vitest";
import { troublesOf } from "../../src/ui/trouble_words";

describe("troublesOf", () => {
  it("has nothing to say of a hub that is well", () => {
    expect(troublesOf({})).toEqual([]);
  });

  it("tells each part in the hub's own words, as sentences, what is not taken in before what is not stored", () => {
    const told = troublesOf({ store: "no room on the disk", journal: "The disk is full." });
    expect(told.map(({ part, title, detail }) => [part, title, detail])).toEqual([
      ["journal", "No data are taken in.", "The disk is full."],
      ["store", "Nothing is stored.", "No room on the disk."],
    ]);
  });

  it("knows no other part, and tells it all the same", () => {
    expect(troublesOf({ broker: "does not answer" })).toEqual([
      {
        part: "broker",
        title: "The hub cannot do all of its work.",
        detail: "Does not answer.",
        meaning: "",
      },
    ]);
  });
});

import { describe, expect, it } from "vitest";
import { describeProblems } from "../../src/ui/status_text";

describe("describeProblems", () => {
  it("returns nothing for a healthy hub", () => {
    expect(describeProblems({})).toEqual([]);
  });

  it("returns the hub's text for each part as a sentence, the journal before the store", () => {
    const problems = describeProblems({ store: "no room on the disk", journal: "The disk is full." });
    expect(problems.map(({ part, title, detail }) => [part, title, detail])).toEqual([
      ["journal", "The hub does not accept data.", "The disk is full."],
      ["store", "The hub does not store data.", "No room on the disk."],
    ]);
  });

  it("reports a part that it does not know", () => {
    expect(describeProblems({ broker: "does not answer" })).toEqual([
      { part: "broker", title: "A part of the hub does not work.", detail: "Does not answer.", meaning: "" },
    ]);
  });
});

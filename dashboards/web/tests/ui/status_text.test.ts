import { describe, expect, it } from "vitest";
import { describeDamage, describeProblems } from "../../src/ui/status_text";

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

describe("describeDamage", () => {
  it("shows the newest incident and counts the others", () => {
    expect(describeDamage([])).toEqual([]);
    const [damage] = describeDamage(["entries 5 to 9 of the journal are lost", "a log was repaired"]);
    expect(damage.detail).toBe("A log was repaired.");
    expect(damage.meaning).toContain("1 more: see the events on the page Flow");
  });
});

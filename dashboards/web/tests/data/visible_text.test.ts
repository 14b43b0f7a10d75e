import { describe, expect, it } from "vitest";
import { visible } from "../../src/data/visible_text";

const BIDIRECTIONAL = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c";

describe("visible", () => {
  it("shows every mark that changes the direction of text as an escape", () => {
    const shown = visible(`a${BIDIRECTIONAL}b`);
    expect(shown).toBe("a\\u202a\\u202b\\u202c\\u202d\\u202e\\u2066\\u2067\\u2068\\u2069\\u200e\\u200f\\u061cb");
  });

  it("shows control characters, except tab and line feed", () => {
    expect(visible("a\u0000\u001b\u0085\u2028b\tc\nd")).toBe("a\\u0000\\u001b\\u0085\\u2028b\tc\nd");
  });

  it("leaves letters of every script as they are", () => {
    for (const text of ["grün – 21 °C", "مضخة", "משאבה", "ポンプ", "👍🏽", ""]) expect(visible(text)).toBe(text);
  });

  it("finds a mark in every one of several texts", () => {
    expect(["\u202ea", "\u202eb", "\u202ec"].map(visible)).toEqual(["\\u202ea", "\\u202eb", "\\u202ec"]);
  });
});

import { describe, expect, it } from "vitest";
import { isWhole } from "../../src/chart/time_axis";

describe("isWhole", () => {
  it("is true while no pixel of the label is outside", () => {
    expect([19, 20, 50, 80, 81].map((middle) => isWhole(middle, 20, 100))).toEqual([false, true, true, true, false]);
  });
});

import { describe, expect, it } from "vitest";
import { virtualWindow } from "../../src/ui/virtual_window";

describe("virtualWindow", () => {
  it("has the rows that are seen and some around them", () => {
    expect(virtualWindow(10_000, 50, 5000, 500, 2)).toEqual({ first: 98, end: 112, height: 500_000 });
  });

  it("covers the view for every scroll position, and stays within the list", () => {
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

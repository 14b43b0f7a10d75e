import { describe, expect, it } from "vitest";
import { envelope, extent } from "../../src/chart/line_path";

describe("envelope", () => {
  it("keeps the smallest and largest value of every column", () => {
    const times = Float64Array.from({ length: 1000 }, (_, i) => i);
    const values = Float64Array.from(times, (time) => Math.sin(time) * time);
    const { low, high, times: middles } = envelope(times, values, 0, 1000, 10);
    expect(middles).toHaveLength(10);
    for (let column = 0; column < 10; column++) {
      const own = values.subarray(column * 100, column * 100 + 100);
      expect(low[column]).toBe(Math.min(...own));
      expect(high[column]).toBe(Math.max(...own));
      expect(middles[column]).toBe(column * 100 + 50);
    }
  });

  it("omits columns without readings and missing values", () => {
    const { times, low } = envelope([1, 95, 96], [1, Number.NaN, 3], 0, 100, 10);
    expect(Array.from(times)).toEqual([5, 95]);
    expect(Array.from(low)).toEqual([1, 3]);
  });
});

describe("extent", () => {
  it("ignores missing values", () => {
    expect(extent([Number.NaN, 2, -1])).toEqual([-1, 2]);
    expect(extent([Number.NaN])).toBeNull();
  });
});

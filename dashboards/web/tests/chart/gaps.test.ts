import { describe, expect, it } from "vitest";
import { commonGaps, findGaps, gapThreshold } from "../../src/chart/gaps";

const every = (step: number, count: number, from = 0) =>
  Array.from({ length: count }, (_, i) => from + i * step);

describe("gapThreshold", () => {
  it("is some usual intervals of a regular series", () => {
    const threshold = gapThreshold(every(1000, 300));
    expect(threshold).toBeGreaterThan(2000);
    expect(threshold).toBeLessThan(10_000);
  });

  it("is not moved by the gaps themselves", () => {
    const times = [...every(1000, 50), ...every(1000, 50, 600_000), ...every(1000, 50, 1_200_000)];
    expect(findGaps(times, gapThreshold(times))).toEqual([
      { from: 49_000, to: 600_000 },
      { from: 649_000, to: 1_200_000 },
    ]);
  });

  it("sees a gap among few readings", () => {
    const times = [0, 1000, 2000, 3000, 60_000, 61_000];
    expect(findGaps(times, gapThreshold(times))).toEqual([{ from: 3000, to: 60_000 }]);
  });

  it("leaves a series that reports on change in peace", () => {
    const times: number[] = [0];
    for (let i = 1; i < 400; i++) times.push(times[i - 1] + 500 * (1 + ((i * 7919) % 13)));
    expect(findGaps(times, gapThreshold(times))).toEqual([]);
  });

  it("calls nothing a gap that a short hiccup explains", () => {
    expect(findGaps(every(20, 200).concat(4700), gapThreshold(every(20, 200)))).toEqual([]);
  });

  it("knows nothing from a few readings", () => {
    expect(gapThreshold([0, 1000, 99_000])).toBe(Number.POSITIVE_INFINITY);
  });
});

describe("commonGaps", () => {
  it("are where every series is silent", () => {
    const a = [
      { from: 0, to: 10 },
      { from: 20, to: 30 },
    ];
    const b = [{ from: 5, to: 25 }];
    expect(commonGaps([a, b])).toEqual([
      { from: 5, to: 10 },
      { from: 20, to: 25 },
    ]);
    expect(commonGaps([a, []])).toEqual([]);
    expect(commonGaps([])).toEqual([]);
  });
});

import { describe, expect, it } from "vitest";
import { labelSpace, rangeFor, roundStep, SteadyRange, ticks, timeLabels } from "../../src/chart/axes";

const at = (day: number, hour: number, minute = 0, second = 0) =>
  new Date(2026, 10, day, hour, minute, second).getTime();

describe("timeLabels", () => {
  it("show the clock time as precisely as the step needs", () => {
    const now = at(23, 14);
    expect(timeLabels([at(23, 13), at(23, 13, 5)], 300_000, now)).toEqual(["13:00", "13:05"]);
    expect(timeLabels([at(23, 13, 0, 15)], 15_000, now)).toEqual(["13:00:15"]);
  });

  it("show the date where the day changes", () => {
    expect(timeLabels([at(22, 20), at(23, 0), at(23, 4)], 4 * 3_600_000, at(23, 5))).toEqual([
      "22 Nov 20:00",
      "23 Nov",
      "04:00",
    ]);
    expect(timeLabels([at(22, 0), at(23, 0)], 86_400_000, at(23, 5))).toEqual(["22 Nov", "23 Nov"]);
  });
});

describe("rangeFor", () => {
  it("has round limits around the data", () => {
    const range = rangeFor(20.3, 28.7);
    expect(range.min).toBeLessThanOrEqual(20.3);
    expect(range.max).toBeGreaterThanOrEqual(28.7);
    expect(ticks(range)).toContain(25);
  });

  it("surrounds a constant value, including zero", () => {
    for (const value of [230, -5, 0, 1e-7, 1e12]) {
      const range = rangeFor(value, value);
      expect(range.min).toBeLessThanOrEqual(value);
      expect(range.max).toBeGreaterThan(range.min);
      expect(ticks(range).length).toBeGreaterThan(1);
    }
  });

  it("has no grid lines between integers", () => {
    expect(rangeFor(32_077, 32_078, 4, 1)).toEqual({ min: 32_076, max: 32_079, step: 1 });
  });

  it("does not go below zero for values that are never negative", () => {
    expect(rangeFor(0, 97).min).toBe(0);
    expect(rangeFor(0.2, 97).min).toBe(0);
  });

  it("steps by 1, 2, 2.5 or 5 times a power of ten", () => {
    expect([0.7, 1.1, 2.2, 3, 6, 0.03].map(roundStep)).toEqual([1, 2, 2.5, 5, 10, 0.05]);
  });
});

describe("SteadyRange", () => {
  it("grows immediately, and only on the exceeded side", () => {
    const range = new SteadyRange();
    const first = range.follow(10, 20, 0);
    const second = range.follow(10, 34, 1);
    expect(second.max).toBeGreaterThanOrEqual(34);
    expect(second.min).toBeGreaterThanOrEqual(Math.floor(first.min / second.step) * second.step);
  });

  it("stays constant while the data move within it", () => {
    const range = new SteadyRange();
    const first = range.follow(0, 100, 0);
    for (let now = 0; now < 100_000; now += 1000) expect(range.follow(5 + (now % 7000) / 1000, 92, now)).toBe(first);
  });

  it("shrinks only after the data have been small for a while", () => {
    const range = new SteadyRange();
    const first = range.follow(0, 100, 0);
    expect(range.follow(0, 10, 1000)).toBe(first);
    expect(range.follow(0, 90, 5000)).toBe(first);
    expect(range.follow(0, 10, 6000)).toBe(first);
    expect(range.follow(0, 10, 13_000)).toBe(first);
    expect(range.follow(0, 10, 14_500).max).toBeLessThan(20);
  });
});

describe("labelSpace", () => {
  it("is the same time on all plots of cards of one width", () => {
    for (const card of [21, 31, 40, 60])
      for (const width of [300, 517, 523])
        expect(labelSpace(card, width) / width).toBeCloseTo(labelSpace(card, 100) / 100);
  });

  it("leaves two labels on the narrowest card, and more on a wide one", () => {
    expect(labelSpace(5, 100)).toBeCloseTo(50, 0);
    expect(labelSpace(60, 900)).toBeCloseTo(90, 0);
  });
});

import { describe, expect, it } from "vitest";
import { rangeFor, roundStep, SteadyRange, ticks } from "../../src/chart/y_range";

describe("rangeFor", () => {
  it("has round bounds around the data", () => {
    const range = rangeFor(20.3, 28.7);
    expect(range.min).toBeLessThanOrEqual(20.3);
    expect(range.max).toBeGreaterThanOrEqual(28.7);
    expect(ticks(range)).toContain(25);
  });

  it("gives a constant room around it, and zero, too", () => {
    for (const value of [230, -5, 0, 1e-7, 1e12]) {
      const range = rangeFor(value, value);
      expect(range.min).toBeLessThanOrEqual(value);
      expect(range.max).toBeGreaterThan(range.min);
      expect(ticks(range).length).toBeGreaterThan(1);
    }
  });

  it("does not go below zero for what never is negative", () => {
    expect(rangeFor(0, 97).min).toBe(0);
    expect(rangeFor(0.2, 97).min).toBe(0);
  });

  it("steps by 1, 2, 2.5 or 5 times a power of ten", () => {
    expect([0.7, 1.1, 2.2, 3, 6, 0.03].map(roundStep)).toEqual([1, 2, 2.5, 5, 10, 0.05]);
  });
});

describe("SteadyRange", () => {
  it("grows at once when data leave it, and only at that side", () => {
    const range = new SteadyRange();
    const first = range.follow(10, 20, 0);
    const second = range.follow(10, 34, 1);
    expect(second.max).toBeGreaterThanOrEqual(34);
    expect(second.min).toBeGreaterThanOrEqual(Math.floor(first.min / second.step) * second.step);
  });

  it("stays as it is while data move within it", () => {
    const range = new SteadyRange();
    const first = range.follow(0, 100, 0);
    for (let now = 0; now < 100_000; now += 1000)
      expect(range.follow(5 + (now % 7000) / 1000, 92, now)).toBe(first);
  });

  it("shrinks only when data have been small for long", () => {
    const range = new SteadyRange();
    const first = range.follow(0, 100, 0);
    expect(range.follow(0, 10, 1000)).toBe(first);
    expect(range.follow(0, 90, 5000)).toBe(first);
    expect(range.follow(0, 10, 6000)).toBe(first);
    expect(range.follow(0, 10, 13_000)).toBe(first);
    expect(range.follow(0, 10, 14_500).max).toBeLessThan(20);
  });
});

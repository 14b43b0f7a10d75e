import { describe, expect, it } from "vitest";
import { lowerBound, SeriesBuffer, upperBound } from "../../src/data/series_buffer";

/** Random generator with a seed, so that a failure is reproducible. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

const held = (buffer: SeriesBuffer) => Array.from(buffer.times, (time, i) => [time, buffer.values[i]]);

describe("SeriesBuffer", () => {
  it("appends in place: drawings stay valid", () => {
    const buffer = new SeriesBuffer();
    expect(buffer.add([1, 2], [10, 20])).toBe(true);
    expect(buffer.add([3], [30])).toBe(true);
    expect(buffer.revision).toBe(0);
    expect(held(buffer)).toEqual([
      [1, 10],
      [2, 20],
      [3, 30],
    ]);
  });

  it("inserts late readings in time order and changes its revision", () => {
    const buffer = new SeriesBuffer();
    buffer.add([10, 20, 30], [1, 2, 3]);
    expect(buffer.add([15, 5], [1.5, 0.5])).toBe(false);
    expect(held(buffer)).toEqual([
      [5, 0.5],
      [10, 1],
      [15, 1.5],
      [20, 2],
      [30, 3],
    ]);
    expect(buffer.revision).toBe(1);
  });

  it("keeps every reading in order, whatever the order of arrival", () => {
    for (let seed = 1; seed <= 50; seed++) {
      const next = random(seed);
      const buffer = new SeriesBuffer();
      const all: number[] = [];
      for (let batch = 0; batch < 20; batch++) {
        const times = Array.from({ length: Math.floor(next() * 30) }, () => Math.floor(next() * 1000));
        if (next() < 0.5) times.sort((a, b) => a - b);
        all.push(...times);
        buffer.add(
          times,
          times.map((time) => time * 2),
        );
      }
      all.sort((a, b) => a - b);
      expect(held(buffer)).toEqual(all.map((time) => [time, time * 2]));
    }
  });

  it("stores an overlapping reading once, but keeps two different values", () => {
    const buffer = new SeriesBuffer();
    buffer.add([1, 2], [10, 20]);
    buffer.add([2, 2, 3], [20, 21, 30], { once: true });
    expect(held(buffer)).toEqual([
      [1, 10],
      [2, 20],
      [2, 21],
      [3, 30],
    ]);
  });

  it("never exceeds its limit and keeps the peaks of thinned readings", () => {
    const buffer = new SeriesBuffer({ maxPoints: 1000 });
    const next = random(7);
    let highest = 0;
    for (let time = 0; time < 20_000; time++) {
      const value = time === 3 ? 5000 : next();
      highest = Math.max(highest, value);
      buffer.add([time], [value]);
      expect(buffer.length).toBeLessThanOrEqual(1000);
    }
    expect(Math.max(...buffer.values)).toBe(highest);
    expect(buffer.lastTime).toBe(19_999);
    expect(Array.from(buffer.times)).toEqual(Array.from(buffer.times).sort((a, b) => a - b));
  });

  it("thins states to their changes", () => {
    const buffer = new SeriesBuffer({ states: true, maxPoints: 100 });
    for (let time = 0; time < 1000; time++) buffer.add([time], [Math.floor(time / 250)]);
    expect(new Set(buffer.values)).toEqual(new Set([0, 1, 2, 3]));
    expect(buffer.length).toBeLessThanOrEqual(100);
  });

  it("stays within its limit when every state differs", () => {
    const buffer = new SeriesBuffer({ states: true, maxPoints: 100 });
    for (let time = 0; time < 1000; time++) buffer.add([time], [time]);
    expect(buffer.length).toBeLessThanOrEqual(100);
    expect(buffer.lastTime).toBe(999);
  });

  it("replaces a range with readings of the hub", () => {
    const buffer = new SeriesBuffer();
    buffer.add([1, 2, 5, 9], [1, 2, 5, 9]);
    buffer.replace(2, 5, [2, 3, 4, 5], [20, 30, 40, 50]);
    expect(held(buffer)).toEqual([
      [1, 1],
      [2, 20],
      [3, 30],
      [4, 40],
      [5, 50],
      [9, 9],
    ]);
  });

  it("removes old readings except the one where the line starts", () => {
    const buffer = new SeriesBuffer();
    buffer.add([1, 2, 3, 4], [1, 2, 3, 4]);
    buffer.dropBefore(3);
    expect(Array.from(buffer.times)).toEqual([2, 3, 4]);
    for (let time = 5; time < 2000; time++) {
      buffer.add([time], [time]);
      buffer.dropBefore(time - 10);
    }
    expect(buffer.length).toBe(12);
  });

  it("assigns one number to each distinct text", () => {
    const buffer = new SeriesBuffer({ states: true });
    expect([buffer.codeOf("on"), buffer.codeOf("off"), buffer.codeOf("on")]).toEqual([0, 1, 0]);
    expect(buffer.textOf(1)).toBe("off");
    expect(buffer.textOf(2)).toBeNull();
  });
});

describe("bounds", () => {
  it("find the first position at or after, and the first after a time", () => {
    const times = [1, 2, 2, 2, 5];
    expect([lowerBound(times, 2), upperBound(times, 2)]).toEqual([1, 4]);
    expect([lowerBound(times, 0), upperBound(times, 9)]).toEqual([0, 5]);
  });
});

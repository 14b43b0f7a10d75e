import { beforeEach, describe, expect, it } from "vitest";
import { ShownSeries } from "../../src/chart/shown_series";
import { SeriesBuffer } from "../../src/data/series_buffer";

const SECOND = 1000;

function filled(times: number[], value: (time: number) => number): SeriesBuffer {
  const buffer = new SeriesBuffer();
  buffer.add(times, times.map(value));
  return buffer;
}

/** One reading a second in these seconds, both ends included. */
function seconds(...runs: [number, number][]): number[] {
  return runs.flatMap(([from, to]) => Array.from({ length: to - from + 1 }, (_, i) => (from + i) * SECOND));
}

describe("ShownSeries", () => {
  const buffers = new Map([
    ["low", filled(seconds([0, 20], [40, 60]), (time) => -time / SECOND)],
    ["high", filled(seconds([0, 25], [45, 50]), (time) => time / SECOND)],
    ["silent", new SeriesBuffer()],
  ]);
  const feed = { bufferOf: (metric: string) => buffers.get(metric) as SeriesBuffer };
  const whole = { from: 0, to: 60 * SECOND };
  let series: ShownSeries;

  beforeEach(() => {
    series = new ShownSeries([...buffers.keys()].map((metric, colour) => ({ metric, colour })));
    for (const index of series.all.keys()) series.look(index, feed, { series: new Map() }, Infinity);
  });

  it("has a gap only where everything shown has one", () => {
    expect(series.gaps(whole, 50 * SECOND)).toEqual([{ from: 25 * SECOND, to: 40 * SECOND }]);
    series.isolate(new Set(["low"]));
    expect(series.gaps(whole, 60 * SECOND)).toEqual([{ from: 20 * SECOND, to: 40 * SECOND }]);
  });

  it("has a gap that goes on when nothing has come for long", () => {
    series.isolate(new Set(["high"]));
    expect(series.gaps(whole, 90 * SECOND).at(-1)).toEqual({ from: 50 * SECOND, to: 90 * SECOND });
  });

  it("finds the extent of what is shown, within the stretch only", () => {
    expect(series.extent(whole)).toEqual([-60, 50]);
    expect(series.extent({ from: 0, to: 10 * SECOND })).toEqual([-10, 10]);
    series.isolate(new Set(["high"]));
    expect(series.extent(whole)).toEqual([0, 50]);
    series.isolate(new Set(["silent"]));
    expect(series.extent(whole)).toBeNull();
  });

  it("ends where its newest readings are", () => {
    expect(series.ends()).toEqual([
      { colour: 0, time: 60 * SECOND, value: -60 },
      { colour: 1, time: 50 * SECOND, value: 50 },
    ]);
  });

  it("tells the values of every series, shown or not", () => {
    series.isolate(new Set(["low"]));
    expect(series.valuesUpTo(30 * SECOND)).toEqual([-20, 25, null]);
    expect(series.valuesUpTo(Infinity)).toEqual([-60, 50, null]);
    expect(series.valuesNear(24.4 * SECOND, 1)).toEqual([null, 24, null]);
  });

  it("holds nothing of another feed", () => {
    series.forget();
    expect(series.extent(whole)).toBeNull();
    expect(series.gaps(whole, 60 * SECOND)).toEqual([]);
  });
});

import { beforeEach, describe, expect, it } from "vitest";
import { ChartSeriesSet, updateSeries } from "../../src/chart/chart_series";
import { toWindowSeries } from "../../src/data/history_window";
import { SeriesBuffer } from "../../src/data/series_buffer";

const SECOND = 1000;
const everywhere = Number.POSITIVE_INFINITY;

function filled(times: number[], value = (time: number) => time): SeriesBuffer {
  const buffer = new SeriesBuffer();
  buffer.add(times, times.map(value));
  return buffer;
}

describe("updateSeries", () => {
  it("detects appended readings and keeps the drawn position", () => {
    const buffer = filled([1, 2]);
    const first = updateSeries(null, buffer, undefined, everywhere);
    expect(first.change).toBe("replaced");
    first.state.drawnTo = 2;
    buffer.add([3], [3]);
    const second = updateSeries(first.state, buffer, undefined, everywhere);
    expect(second.change).toBe("appended");
    expect(second.state.drawnTo).toBe(2);
    expect(updateSeries(second.state, buffer, undefined, everywhere).change).toBe("none");
  });

  it("requires a new drawing after late readings", () => {
    const buffer = filled([1, 5]);
    const { state } = updateSeries(null, buffer, undefined, everywhere);
    buffer.add([3], [3]);
    expect(updateSeries(state, buffer, undefined, everywhere).change).toBe("replaced");
  });

  it("detects another buffer, even with equal content", () => {
    const { state } = updateSeries(null, filled([1, 2, 3]), undefined, everywhere);
    expect(updateSeries(state, filled([1, 2, 3, 4]), undefined, everywhere).change).toBe("replaced");
  });

  it("does not change a view of the past for later readings", () => {
    const buffer = filled([1, 2, 300]);
    const answer = { device: "d", metric: "m", type: "float" as const, unit: "", resolution: "raw" as const };
    const window = toWindowSeries({ ...answer, time_ns: [1e6], values: [1] }, { from: 0, to: 100, step_ms: 1 });
    const first = updateSeries(null, buffer, window, 100);
    expect(first.change).toBe("replaced");
    buffer.add([301], [301]);
    expect(updateSeries(first.state, buffer, window, 100).change).toBe("none");
    expect(updateSeries(first.state, buffer, undefined, 100).change).toBe("replaced");
  });
});

/** Return one time per second in these intervals, both ends included. */
function seconds(...runs: [number, number][]): number[] {
  return runs.flatMap(([from, to]) => Array.from({ length: to - from + 1 }, (_, i) => (from + i) * SECOND));
}

describe("ChartSeriesSet", () => {
  const buffers = new Map([
    ["low", filled(seconds([0, 20], [40, 60]), (time) => -time / SECOND)],
    ["high", filled(seconds([0, 25], [45, 50]), (time) => time / SECOND)],
    ["silent", new SeriesBuffer()],
  ]);
  const feed = { bufferOf: (metric: string) => buffers.get(metric) as SeriesBuffer };
  const whole = { from: 0, to: 60 * SECOND };
  let series: ChartSeriesSet;

  beforeEach(() => {
    series = new ChartSeriesSet([...buffers.keys()].map((metric, colour) => ({ metric, colour })));
    for (const index of series.all.keys()) series.update(index, feed, { series: new Map() }, Infinity);
  });

  it("has a gap only where all shown series have one", () => {
    expect(series.gaps(whole, 50 * SECOND)).toEqual([{ from: 25 * SECOND, to: 40 * SECOND }]);
    series.isolate(new Set(["low"]));
    expect(series.gaps(whole, 60 * SECOND)).toEqual([{ from: 20 * SECOND, to: 40 * SECOND }]);
  });

  it("has an open gap after a long silence", () => {
    series.isolate(new Set(["high"]));
    expect(series.gaps(whole, 90 * SECOND).at(-1)).toEqual({ from: 50 * SECOND, to: 90 * SECOND });
  });

  it("has an open gap from the end of the connection on, before the next reading is overdue", () => {
    series.isolate(new Set(["low"]));
    const now = 60.5 * SECOND;
    expect(series.gaps(whole, now).at(-1)).toEqual({ from: 20 * SECOND, to: 40 * SECOND });
    expect(series.gaps(whole, now, 60.2 * SECOND).at(-1)).toEqual({ from: 60.2 * SECOND, to: now });
  });

  it("returns the extent of the shown series within the range", () => {
    expect(series.extent(whole)).toEqual([-60, 50]);
    expect(series.extent({ from: 0, to: 10 * SECOND })).toEqual([-10, 10]);
    series.isolate(new Set(["high"]));
    expect(series.extent(whole)).toEqual([0, 50]);
    series.isolate(new Set(["silent"]));
    expect(series.extent(whole)).toBeNull();
  });

  it("returns the newest readings as ends", () => {
    expect(series.ends()).toEqual([
      { colour: 0, time: 60 * SECOND, value: -60 },
      { colour: 1, time: 50 * SECOND, value: 50 },
    ]);
  });

  it("returns the values of every series, shown or not", () => {
    series.isolate(new Set(["low"]));
    expect(series.valuesUpTo(30 * SECOND)).toEqual([-20, 25, null]);
    expect(series.valuesUpTo(Infinity)).toEqual([-60, 50, null]);
    expect(series.valuesNear(24.4 * SECOND, 1)).toEqual([null, 24, null]);
  });

  it("is empty after a reset", () => {
    series.reset();
    expect(series.extent(whole)).toBeNull();
    expect(series.gaps(whole, 60 * SECOND)).toEqual([]);
  });
});

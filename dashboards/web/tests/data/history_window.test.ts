import { describe, expect, it } from "vitest";
import { mergeColumns, recodeTexts } from "../../src/chart/chart_series";
import { covers, toWindowSeries } from "../../src/data/history_window";
import { SeriesBuffer } from "../../src/data/series_buffer";

const answer = {
  device: "d",
  metric: "m",
  type: "float" as const,
  unit: "",
  resolution: "reduced" as const,
  time_ns: [10e6, 20e6, 30e6],
  values: [1, null, 3],
};

describe("toWindowSeries", () => {
  it("converts nanoseconds to milliseconds and a missing value to NaN", () => {
    const window = toWindowSeries(answer, { from: 0, to: 40, step_ms: 10 });
    expect(Array.from(window.times)).toEqual([10, 20, 30]);
    expect(Array.from(window.values)).toEqual([1, Number.NaN, 3]);
  });

  it("converts texts to positions in a list", () => {
    const window = toWindowSeries(
      { ...answer, type: "string", values: ["on", "off", "on"] },
      { from: 0, to: 40, step_ms: 10 },
    );
    expect(Array.from(window.values)).toEqual([0, 1, 0]);
    expect(window.texts).toEqual(["on", "off"]);
  });
});

describe("covers", () => {
  const window = toWindowSeries(answer, { from: 0, to: 1000, step_ms: 10 });
  it("is true within the range while the points are fine enough", () => {
    expect(covers(window, { from: 100, to: 900, width_px: 100 })).toBe(true);
    expect(covers(window, { from: 100, to: 1100, width_px: 100 })).toBe(false);
    expect(covers(window, { from: 100, to: 110, width_px: 100 })).toBe(false);
    expect(covers({ ...window, resolution: "raw" }, { from: 100, to: 110, width_px: 100 })).toBe(true);
    expect(covers(undefined, { from: 0, to: 1, width_px: 1 })).toBe(false);
  });
});

describe("mergeColumns", () => {
  it("replaces the feed's readings within the hub's answer and keeps those around it", () => {
    const recent = { times: Float64Array.of(5, 15, 25, 35, 45), values: Float64Array.of(5, 15, 25, 35, 45) };
    const window = toWindowSeries({ ...answer, values: [1, 2, 3] }, { from: 10, to: 40, step_ms: 10 });
    const composed = mergeColumns(recent, window);
    expect(Array.from(composed.times)).toEqual([5, 10, 20, 30, 35, 45]);
    expect(Array.from(composed.values)).toEqual([5, 1, 2, 3, 35, 45]);
  });

  it("converts a text to its number in the feed", () => {
    const buffer = new SeriesBuffer({ states: true });
    const [off, on] = [buffer.codeOf("off"), buffer.codeOf("on")];
    const window = toWindowSeries(
      { ...answer, type: "string", values: ["on", null, "off"] },
      { from: 0, to: 40, step_ms: 10 },
    );
    expect(Array.from(recodeTexts(buffer, window)?.values ?? [])).toEqual([on, Number.NaN, off]);
  });

  it("returns the feed's readings without an answer", () => {
    const recent = { times: Float64Array.of(1), values: Float64Array.of(1) };
    expect(mergeColumns(recent, undefined)).toBe(recent);
  });
});

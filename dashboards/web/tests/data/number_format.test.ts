import { describe, expect, it } from "vitest";
import type { MetricDetails } from "../../src/data/metrics";
import {
  decimalsOf,
  FormatCache,
  fixed,
  formatFor,
  formatValue,
  latestReading,
  plural,
} from "../../src/data/number_format";
import { SeriesBuffer } from "../../src/data/series_buffer";

const shown = (values: number[], unit: string, value: number, integer = false) => {
  const format = formatFor(values, unit, { integer });
  return `${formatValue(value, format)} ${format.unit}`.trim();
};

describe("formatFor", () => {
  it("shows a metric with the decimals of its resolution", () => {
    expect(shown([20.5, 21, 22.5], "°C", 21)).toBe("21.0 °C");
    expect(shown([1013.25, 1013.5], "hPa", 1013)).toBe("1,013.00 hPa");
  });

  it("shows no more decimals than the spread needs", () => {
    expect(shown([20.123456, 30.987654, 25.5555], "°C", 25.55555)).toBe("25.56 °C");
    expect(shown([0.000123, 0.000125], "V", 0.000124)).toBe("0.000124 V");
  });

  it("shows five digits of a computed value, or as many as its changes need", () => {
    expect(shown([14.54395, 14.48212, 14.42117], "", 14.54395)).toBe("14.544");
    expect(shown([52.123456, 52.123789, 52.124012], "°", 52.123456)).toBe("52.12346 °");
    expect(shown([3.266e9, 3.2712e9], "B", 3.266e9)).toBe("3.266 GB");
  });

  it("shows no decimals for an integer metric", () => {
    expect(shown([1, 2, 3], "", 1204, true)).toBe("1,204");
  });

  it("scales bytes and rates with prefixes, but no other units", () => {
    expect(shown([9.2e9, 9.8e9], "B", 9.44e9)).toBe("9.44 GB");
    expect(shown([2.4e6, 1e5], "B/s", 1.2e6)).toBe("1.20 MB/s");
    expect(shown([512], "bytes", 512)).toBe("512 B");
    expect(shown([98_000], "1/min", 98_000)).toBe("98,000 1/min");
  });

  it("keeps decimals and prefix stable while values cross a limit", () => {
    const first = formatFor([1.5e6, 1.2e6], "B/s");
    const second = formatFor([0.8e6, 0.7e6], "B/s", { before: first });
    expect(second.unit).toBe("MB/s");
    expect(formatFor([2e5], "B/s", { before: first }).unit).toBe("kB/s");
    const fine = formatFor([1.25, 2.5], "V");
    expect(formatFor([1, 2], "V", { before: fine }).decimals).toBe(fine.decimals);
  });

  it("shows a missing value as a dash and uses a typographic minus sign", () => {
    const format = formatFor([-1.5], "°C");
    expect(formatValue(Number.NaN, format)).toBe("–");
    expect(formatValue(null, format)).toBe("–");
    expect(formatValue(-1.5, format)).toBe("−1.5");
    expect(fixed(-0.001, 1)).toBe("0.0");
  });

  it("shows very large and very small values with an exponent", () => {
    expect(formatValue(1.5e15, { decimals: 2, scale: 1, unit: "" })).toBe("1.500e15");
    expect(formatValue(1e-9, { decimals: 2, scale: 1, unit: "" })).toBe("1.000e−9");
  });
});

describe("decimalsOf", () => {
  it("counts the decimals of a value", () => {
    expect([3, 0.5, 0.25, 1013.254, 0.1 + 0.2].map(decimalsOf)).toEqual([0, 1, 2, 3, 1]);
  });
});

function head(type: MetricDetails["type"], value: number | boolean | string | null): MetricDetails {
  return {
    metric: "m",
    type,
    unit: type === "float" ? "bar" : "",
    description: "",
    latest: { time_ns: 1, value },
  };
}

function held(...values: number[]): SeriesBuffer {
  const buffer = new SeriesBuffer();
  buffer.add(
    values.map((_, index) => index),
    values,
  );
  return buffer;
}

const read = (info: MetricDetails, buffer?: SeriesBuffer) => latestReading(info, buffer, new FormatCache());

describe("latestReading", () => {
  it("is the value from the hub's list before the first reading", () => {
    expect(read(head("float", 6.25))).toEqual({ text: "6.25", unit: "bar" });
    expect(read(head("boolean", false), new SeriesBuffer())).toEqual({ text: "off", unit: "" });
    expect(read(head("string", "fault"))).toEqual({ text: "fault", unit: "" });
    expect(read(head("float", null))).toEqual({ text: "–", unit: "" });
    expect(read({ ...head("float", null), latest: null })).toEqual({ text: "–", unit: "" });
  });

  it("is the last reading of the buffer afterwards", () => {
    expect(read(head("float", 6.25), held(1, 2.5))).toEqual({ text: "2.5", unit: "bar" });
    expect(read(head("boolean", false), held(0, 1))).toEqual({ text: "on", unit: "" });
    const texts = new SeriesBuffer();
    texts.add([1, 2], [texts.codeOf("off"), texts.codeOf("running")]);
    expect(read(head("string", "fault"), texts)).toEqual({ text: "running", unit: "" });
  });

  it("is a dash if the last reading has no value", () => {
    for (const type of ["float", "boolean", "string"] as const)
      expect(read(head(type, null), held(1, Number.NaN)).text).toBe("–");
  });
});

describe("plural", () => {
  it("adds the noun in singular or plural", () => {
    expect([0, 1, -1, 1200].map((value) => plural(value, "reading"))).toEqual([
      "0 readings",
      "1 reading",
      "−1 reading",
      "1,200 readings",
    ]);
    expect([1, 2].map((value) => plural(value, "batch", "batches"))).toEqual(["1 batch", "2 batches"]);
  });
});

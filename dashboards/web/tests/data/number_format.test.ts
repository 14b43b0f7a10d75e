import { describe, expect, it } from "vitest";
import { decimalsOf, fixed, formatFor, formatValue } from "../../src/data/number_format";

const shown = (values: number[], unit: string, value: number, integer = false) => {
  const format = formatFor(values, unit, { integer });
  return `${formatValue(value, format)} ${format.unit}`.trim();
};

describe("formatFor", () => {
  it("shows a metric with the decimals of its own resolution", () => {
    expect(shown([20.5, 21, 22.5], "°C", 21)).toBe("21.0 °C");
    expect(shown([1013.25, 1013.5], "hPa", 1013)).toBe("1,013.00 hPa");
  });

  it("does not show more decimals than the spread is worth", () => {
    expect(shown([20.123456, 30.987654, 25.5555], "°C", 25.55555)).toBe("25.56 °C");
    expect(shown([0.000123, 0.000125], "V", 0.000124)).toBe("0.000124 V");
  });

  it("never shows decimals of an integer metric", () => {
    expect(shown([1, 2, 3], "", 1204, true)).toBe("1,204");
  });

  it("scales bytes and rates with prefixes, and other units not", () => {
    expect(shown([9.2e9, 9.8e9], "B", 9.44e9)).toBe("9.44 GB");
    expect(shown([2.4e6, 1e5], "B/s", 1.2e6)).toBe("1.20 MB/s");
    expect(shown([512], "bytes", 512)).toBe("512 B");
    expect(shown([98_000], "1/min", 98_000)).toBe("98,000 1/min");
  });

  it("keeps decimals and prefix steady while values move about a border", () => {
    const first = formatFor([1.5e6, 1.2e6], "B/s");
    const second = formatFor([0.8e6, 0.7e6], "B/s", { before: first });
    expect(second.unit).toBe("MB/s");
    expect(formatFor([2e5], "B/s", { before: first }).unit).toBe("kB/s");
    const fine = formatFor([1.25, 2.5], "V");
    expect(formatFor([1, 2], "V", { before: fine }).decimals).toBe(fine.decimals);
  });

  it("shows no value as a dash and uses a real minus sign", () => {
    const format = formatFor([-1.5], "°C");
    expect(formatValue(Number.NaN, format)).toBe("–");
    expect(formatValue(null, format)).toBe("–");
    expect(formatValue(-1.5, format)).toBe("−1.5");
    expect(fixed(-0.001, 1)).toBe("0.0");
  });

  it("shows what is far too large or small by its power", () => {
    expect(formatValue(1.5e15, { decimals: 2, scale: 1, unit: "" })).toBe("1.500e15");
    expect(formatValue(1e-9, { decimals: 2, scale: 1, unit: "" })).toBe("1.000e−9");
  });
});

describe("decimalsOf", () => {
  it("counts the decimals that a value has", () => {
    expect([3, 0.5, 0.25, 1013.254, 0.1 + 0.2].map(decimalsOf)).toEqual([0, 1, 2, 3, 1]);
  });
});

import { describe, expect, it } from "vitest";
import { axisLabel, spreadApart } from "../../src/pages/device/value_axis";

describe("spreadApart", () => {
  it("separates tags as little as needed within the axis", () => {
    expect(spreadApart([10, 100], 18, 200)).toEqual([10, 100]);
    expect(spreadApart([50, 45], 18, 200)).toEqual([63, 45]);
    for (const top of spreadApart([190, 191, 195], 18, 200)) expect(top).toBeLessThanOrEqual(182);
  });
});

describe("axisLabel", () => {
  it("uses the decimals of the step on every line", () => {
    expect([10, 7.5, 5].map((tick) => axisLabel(tick, 2.5))).toEqual(["10.0", "7.5", "5.0"]);
    expect([196_960_000, 196_959_000].map((tick) => axisLabel(tick, 1000))).toEqual(["196.960 M", "196.959 M"]);
  });

  it("shortens large and tiny numbers", () => {
    expect(axisLabel(150_000, 50_000)).toBe("150 k");
    expect(axisLabel(2e-7, 1e-7)).toBe("2.0e−7");
    expect([1e-6, 1.25e-6, 1.5e-6].map((tick) => axisLabel(tick, 2.5e-7))).toEqual(["1.00e−6", "1.25e−6", "1.50e−6"]);
    expect([1.25e15, 1.5e15].map((tick) => axisLabel(-tick, 2.5e14))).toEqual(["−1.25e15", "−1.50e15"]);
    expect(axisLabel(0, 1e-7)).toMatch(/^0/);
  });
});

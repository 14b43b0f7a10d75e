import { describe, expect, it } from "vitest";
import { chartGroups, colourOf, leadingMetrics, type MetricHead } from "../../src/data/metrics";

const head = (metric: string, unit = "", type: MetricHead["type"] = "float"): MetricHead => ({
  metric,
  unit,
  type,
  description: "",
});

describe("leadingMetrics", () => {
  it("puts informative quantities first and counters last, with different units where possible", () => {
    const metrics = [
      head("odometer", "m"),
      head("state", "", "string"),
      head("speed", "km/h"),
      head("engine_temperature", "°C"),
    ];
    expect(leadingMetrics(metrics, 2).map(({ metric }) => metric)).toEqual(["engine_temperature", "speed"]);
  });

  it("selects one metric per numbered group before a second one", () => {
    const metrics = [head("cpu.0", "%"), head("cpu.1", "%"), head("memory.used_percent", "%")];
    expect(leadingMetrics(metrics, 2).map(({ metric }) => metric)).toEqual(["cpu.0", "memory.used_percent"]);
  });

  it("prefers the total of all processors to one of them", () => {
    const metrics = [head("cpu.0", "%"), head("cpu.1", "%"), head("cpu.total", "%"), head("energy.total", "kWh")];
    expect(leadingMetrics(metrics, 2).map(({ metric }) => metric)).toEqual(["cpu.total", "energy.total"]);
    expect(leadingMetrics(metrics, 3)[2].metric).toBe("cpu.0");
  });

  it("returns all metrics when there are few", () => {
    expect(leadingMetrics([head("a", "V"), head("b", "V")], 3)).toHaveLength(2);
  });
});

describe("chartGroups", () => {
  const metrics = [
    head("cpu.0", "%"),
    head("temperature", "°C"),
    head("cpu.1", "%"),
    head("load", "%"),
    head("door", "", "boolean"),
    head("accel_x", "g"),
    head("accel_y", "g"),
  ];

  it("creates a chart per metric, ordered by unit, joins numbered metrics and omits states", () => {
    const groups = chartGroups(metrics, false);
    expect(groups.map((group) => [group.title, group.metrics.length])).toEqual([
      ["cpu", 2],
      ["load", 1],
      ["temperature", 1],
      ["accel", 2],
    ]);
  });

  it("joins all metrics of a unit on request", () => {
    const groups = chartGroups(metrics, true);
    expect(groups.map((group) => [group.unit, group.metrics.length])).toEqual([
      ["%", 3],
      ["°C", 1],
      ["g", 2],
    ]);
  });

  it("names a chart of one metric by its full name", () => {
    expect(chartGroups([head("fan.1", "1/min")], false)[0].title).toBe("fan.1");
  });
});

describe("colourOf", () => {
  it("is the metric's position in the device's list on every page", () => {
    const metrics = [head("a"), head("b")];
    expect(colourOf(metrics, "b")).toBe(1);
    expect(colourOf(metrics, "unknown")).toBe(0);
  });
});

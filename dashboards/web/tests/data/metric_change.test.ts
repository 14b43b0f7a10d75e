import { describe, expect, it } from "vitest";
import { changeOf, retriedText } from "../../src/data/metric_change";
import type { MetricDetails } from "../../src/data/metrics";
import type { RetriedBatches } from "../../src/wire/api";

const metric: MetricDetails = { metric: "t", type: "string", unit: "", description: "of the boiler", latest: null };
const edited = { name: "t", type: metric.type, unit: "", description: "of the boiler" };

describe("changeOf", () => {
  it("contains only what differs", () => {
    expect(changeOf(metric, { ...edited, type: "float", unit: "°C" })).toEqual({
      metric: "t",
      type: "float",
      unit: "°C",
    });
    expect(changeOf(metric, { ...edited, name: " temperature ", description: "" })).toEqual({
      metric: "t",
      name: "temperature",
      description: "",
    });
  });

  it("is null without a difference", () => {
    expect(changeOf(metric, { ...edited, name: "t " })).toBeNull();
  });
});

describe("retriedText", () => {
  const retried: RetriedBatches = { selected: 3, accepted: 2, readings: 80, refused: 0, reasons: {}, next: null };

  it("says what left the quarantine and what stays", () => {
    expect(retriedText(retried)).toBe("2 messages with 80 readings left the quarantine.");
    expect(retriedText({ ...retried, refused: 1, reasons: { wrong_type: 1 }, next: 9 })).toBe(
      "2 messages with 80 readings left the quarantine. 1 message stays (wrong_type). " +
        "Retry the others on the page Quarantine.",
    );
  });
});

import { describe, expect, it } from "vitest";
import type { MetricInfo } from "../../src/data/api";
import { Formats } from "../../src/data/formats";
import { newestReading } from "../../src/data/reading_text";
import { SeriesBuffer } from "../../src/data/series_buffer";

function head(type: MetricInfo["type"], value: number | boolean | string | null): MetricInfo {
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

const read = (info: MetricInfo, buffer?: SeriesBuffer) => newestReading(info, buffer, new Formats());

describe("newestReading", () => {
  it("is what the hub's list told while no reading has come", () => {
    expect(read(head("float", 6.25))).toEqual({ text: "6.25", unit: "bar" });
    expect(read(head("boolean", false), new SeriesBuffer())).toEqual({ text: "off", unit: "" });
    expect(read(head("string", "fault"))).toEqual({ text: "fault", unit: "" });
    expect(read(head("float", null))).toEqual({ text: "–", unit: "" });
    expect(read({ ...head("float", null), latest: null })).toEqual({ text: "–", unit: "" });
  });

  it("is the last reading of the buffer from then on", () => {
    expect(read(head("float", 6.25), held(1, 2.5))).toEqual({ text: "2.5", unit: "bar" });
    expect(read(head("boolean", false), held(0, 1))).toEqual({ text: "on", unit: "" });
    const texts = new SeriesBuffer();
    texts.add([1, 2], [texts.codeOf("off"), texts.codeOf("running")]);
    expect(read(head("string", "fault"), texts)).toEqual({ text: "running", unit: "" });
  });

  it("is a dash where the last reading has no value", () => {
    for (const type of ["float", "boolean", "string"] as const)
      expect(read(head(type, null), held(1, Number.NaN)).text).toBe("–");
  });
});

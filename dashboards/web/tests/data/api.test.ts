import { describe, expect, it } from "vitest";
import { historyPath } from "../../src/data/api";

function queryOf(path: string): URLSearchParams {
  const url = new URL(path, "http://hub");
  expect(url.pathname).toBe("/history");
  return url.searchParams;
}

describe("historyPath", () => {
  const timeRange = { from: 1_700_000_000_000.25, to: 1_700_000_060_000 };

  it("requests every reading with 0 points: without the parameter the hub reduces the answer", () => {
    const query = queryOf(historyPath("pump-1", ["flow", "net/rx & tx"], { ...timeRange, points: 0, format: "csv" }));
    expect(query.get("points")).toBe("0");
    expect(query.get("format")).toBe("csv");
    expect(query.get("device")).toBe("pump-1");
    expect(query.getAll("metric")).toEqual(["flow", "net/rx & tx"]);
  });

  it("writes times as integer nanoseconds with all digits", () => {
    const query = queryOf(historyPath("d", ["m"], { ...timeRange, points: 0 }));
    expect(query.get("from")).toBe("1700000000000250000");
    expect(query.get("to")).toBe("1700000060000000000");
    expect(query.has("format")).toBe(false);
  });

  it("requests an integer number of points", () => {
    expect(queryOf(historyPath("d", ["m"], { ...timeRange, points: 1440.4 })).get("points")).toBe("1440");
  });
});

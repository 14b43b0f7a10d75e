import { describe, expect, it } from "vitest";
import { timeLabels } from "../../src/chart/time_labels";

const at = (day: number, hour: number, minute = 0, second = 0) =>
  new Date(2026, 10, day, hour, minute, second).getTime();

describe("timeLabels", () => {
  it("are the clock, as fine as the step needs", () => {
    const now = at(23, 14);
    expect(timeLabels([at(23, 13), at(23, 13, 5)], 300_000, now)).toEqual(["13:00", "13:05"]);
    expect(timeLabels([at(23, 13, 0, 15)], 15_000, now)).toEqual(["13:00:15"]);
  });

  it("tell the day where it changes", () => {
    expect(timeLabels([at(22, 20), at(23, 0), at(23, 4)], 4 * 3_600_000, at(23, 5))).toEqual([
      "22 Nov 20:00",
      "23 Nov",
      "04:00",
    ]);
    expect(timeLabels([at(22, 0), at(23, 0)], 86_400_000, at(23, 5))).toEqual(["22 Nov", "23 Nov"]);
  });
});

import { describe, expect, it } from "vitest";
import { age, ago, clockOffset, dateTime, duration, millisecondsOf } from "../../src/data/time";

describe("durations", () => {
  it("use at most two units", () => {
    expect([250, 4000, 192_000, 7_500_000, 273_600_000].map(duration)).toEqual([
      "250 ms",
      "4 s",
      "3 min 12 s",
      "2 h 5 min",
      "3 d 4 h",
    ]);
  });

  it("omit a unit that is zero", () => {
    expect([60_000, 3_600_000].map(duration)).toEqual(["1 min", "1 h"]);
  });
});

describe("millisecondsOf", () => {
  it("keeps whole milliseconds of an answer of the hub exact", () => {
    for (let time_ms = 1_767_225_600_000; time_ms < 1_767_225_602_000; time_ms++)
      expect(millisecondsOf(JSON.parse(`${time_ms}000000`) as number)).toBe(time_ms);
    for (const time_ms of [1, 999, 4_102_444_800_003])
      expect(millisecondsOf(JSON.parse(`${time_ms}000000`) as number)).toBe(time_ms);
  });

  it("rounds other times to microseconds", () => {
    expect(millisecondsOf(JSON.parse("1767225600001234567") as number)).toBe(1_767_225_600_001.235);
  });
});

describe("ages", () => {
  it("use one unit, or now", () => {
    expect([-5, 900, 5000, 61_000, 7_200_000, 200_000_000].map(age)).toEqual([
      "now",
      "now",
      "5 s",
      "1 min",
      "2 h",
      "2 d",
    ]);
  });
});

describe("ago", () => {
  it("says just now instead of now ago", () => {
    expect([900, 5000].map(ago)).toEqual(["just now", "5 s ago"]);
  });
});

describe("dateTime", () => {
  it("name the day only if it is not today", () => {
    const now = new Date(2026, 10, 23, 14, 0, 0).getTime();
    expect(dateTime(now - 3_600_000, now)).toBe("13:00:00");
    expect(dateTime(now - 86_400_000, now)).toBe("22 Nov 14:00:00");
    expect(dateTime(new Date(2024, 0, 5).getTime(), now, "minutes")).toBe("5 Jan 2024 00:00");
  });
});

describe("clock offsets", () => {
  it("have a sign and a suitable unit", () => {
    expect([2.1e6, -3.4e9, 0].map(clockOffset)).toEqual(["+2.1 ms", "−3.4 s", "+0.0 ms"]);
  });
});

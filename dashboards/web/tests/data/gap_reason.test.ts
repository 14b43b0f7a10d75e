import { describe, expect, it } from "vitest";
import { gapReason } from "../../src/data/gap_reason";

const gap = { from: 1_000_000, to: 1_192_000 };
const event = (time_ms: number, kind: string, detail: unknown = "") => ({
  time_ns: time_ms * 1e6,
  kind,
  detail,
});

describe("gapReason", () => {
  it("is the device's own declaration when there is one", () => {
    const events = [event(1_190_000, "gap", "spool full"), event(1_000_500, "disconnected")];
    expect(gapReason(gap, events, null)).toBe("No readings for 3 min 12 s. The device says: spool full");
  });

  it("is the hub when the hub was started in it", () => {
    expect(gapReason(gap, [event(1_000_500, "disconnected")], 1_180_000)).toBe(
      "No readings for 3 min 12 s. The hub was off",
    );
  });

  it("is the device when it was disconnected", () => {
    expect(gapReason(gap, [event(1_000_500, "disconnected", "no pong")], 5)).toBe(
      "No readings for 3 min 12 s. The device was offline (no pong)",
    );
    expect(gapReason(gap, [event(1_191_000, "connected")], null)).toBe(
      "No readings for 3 min 12 s. The device was offline",
    );
  });

  it("says so when nothing is known, and looks at no other times", () => {
    expect(gapReason(gap, [event(100_000, "disconnected")], 900_000)).toBe(
      "No readings for 3 min 12 s. The device sent none",
    );
  });
});

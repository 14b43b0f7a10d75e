import { describe, expect, it } from "vitest";
import { gapReason } from "../../src/data/gap_reason";

const gap = { from: 1_000_000, to: 1_192_000 };
const event = (time_ms: number, kind: string, detail: string) => ({ time_ns: time_ms * 1e6, kind, detail });
const broke = event(1_000_500, "disconnected", "the connection broke");

describe("gapReason", () => {
  it("is the device's own declaration when there is one", () => {
    const events = [event(1_190_000, "gap", "batches 4 to 9 lost: spool full"), broke];
    expect(gapReason(gap, events, null)).toBe(
      "No readings for 3 min 12 s. The device says: batches 4 to 9 lost: spool full",
    );
  });

  it("is the hub when the hub was started in it", () => {
    expect(gapReason(gap, [broke], 1_180_000)).toBe("No readings for 3 min 12 s. The hub was off");
  });

  it("is the hub when it stopped or closed the connection for its restart", () => {
    for (const detail of ["the hub stopped", "closed with 1012: shutting_down"])
      expect(gapReason(gap, [event(1_000_500, "disconnected", detail)], 9_000_000)).toBe(
        "No readings for 3 min 12 s. The hub was off",
      );
  });

  it("is the device when it was disconnected, whatever its own words are about", () => {
    expect(gapReason(gap, [broke], 5)).toBe(
      "No readings for 3 min 12 s. The device was offline (the connection broke)",
    );
    const words = "closed with 4000: restart of the USB hub, shutting down";
    expect(gapReason(gap, [event(1_000_500, "disconnected", words)], null)).toBe(
      `No readings for 3 min 12 s. The device was offline (${words})`,
    );
    expect(gapReason(gap, [event(1_191_000, "connected", "gap-filler 2.0, offline first")], null)).toBe(
      "No readings for 3 min 12 s. The device was offline",
    );
  });

  it("says so when nothing is known, and looks at no other times and kinds", () => {
    const events = [
      event(100_000, "disconnected", "the connection broke"),
      event(1_000_500, "superseded", "a newer connection took over"),
    ];
    expect(gapReason(gap, events, 900_000)).toBe("No readings for 3 min 12 s. The device sent none");
  });
});

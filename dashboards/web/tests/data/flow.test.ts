import { describe, expect, it } from "vitest";
import type { Books, Flow } from "../../src/data/api";
import { orderOf, ratesOf, verdictOf } from "../../src/data/flow";
import type { Look } from "../../src/data/looks";

function books(numbers: Partial<Books>): Books {
  return {
    accepted: 0,
    stored: 0,
    waiting: 0,
    refused: 0,
    expired: 0,
    difference: 0,
    accepted_batches: 0,
    duplicate_batches: 0,
    quarantined_batches: 0,
    lost_batches: 0,
    ...numbers,
  };
}

function look(at_ms: number, numbers: Partial<Books>, journal = "j"): Look<Flow> {
  const flow: Flow = {
    journal: { id: journal, first_offset: 1, last_offset: 1, size_bytes: 0 },
    consumers: [],
    store: { phase: "running", since_ns: 0, error: null, missed: 0 },
    totals: books(numbers),
    devices: [],
  };
  return { told: flow, at_ms };
}

describe("ratesOf", () => {
  it("counts what came in and what was stored in between, also what a retention has deleted by now", () => {
    const before = look(1000, { accepted: 100, stored: 90, expired: 10 });
    const now = look(3000, { accepted: 500, stored: 60, expired: 240 });
    expect(ratesOf(before, now)).toEqual({ accepted: 200, stored: 100 });
  });

  it("tells nothing of the first look, of no time, of another journal and of a store that does not answer", () => {
    const unknown = { accepted: null, stored: null };
    expect(ratesOf(undefined, look(1, {}))).toEqual(unknown);
    expect(ratesOf(look(1, {}), look(1, { accepted: 5 }))).toEqual(unknown);
    expect(ratesOf(look(1, {}), look(2, { accepted: 5 }, "other"))).toEqual(unknown);
    expect(ratesOf(look(0, {}), look(1000, { accepted: 5, stored: null }))).toEqual({
      accepted: 5,
      stored: null,
    });
  });
});

describe("orderOf", () => {
  it("has what does not balance on top and keeps the rest in order of names", () => {
    const named = (device: string, difference: number | null, waiting = 0) => ({
      device,
      ...books({ difference, waiting }),
    });
    const devices = [named("pump-10", 0, 9), named("pump-9", null), named("b", -1), named("a", 2)];
    expect(orderOf(devices).map(({ device }) => device)).toEqual(["a", "b", "pump-9", "pump-10"]);
  });
});

describe("verdictOf", () => {
  it("is wrong for too few and too many, and open while something is counted", () => {
    expect(verdictOf(books({ difference: 0 }))).toBe("balanced");
    expect(verdictOf(books({ difference: 3 }))).toBe("wrong");
    expect(verdictOf(books({ difference: -3 }))).toBe("wrong");
    expect(verdictOf(books({ difference: null, waiting: null }))).toBe("counting");
  });
});

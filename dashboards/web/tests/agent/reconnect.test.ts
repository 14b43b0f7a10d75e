import { describe, expect, it } from "vitest";
import {
  delayBefore,
  type Ending,
  isFinal,
  MAX_DELAY_MS,
  needsPerson,
  RefusedBatchSearch,
} from "../../src/agent/reconnect";

const ending = (rest: Partial<Ending> = {}): Ending => ({
  reason: "",
  close: 1006,
  error: null,
  retry_ms: null,
  ...rest,
});

describe("delays", () => {
  it("have full jitter below a bound that doubles", () => {
    for (let attempt = 0; attempt < 40; attempt++)
      expect(delayBefore(ending(), attempt, 1000, 1)).toBe(Math.min(MAX_DELAY_MS, 1000 * 2 ** attempt));
    expect(delayBefore(ending(), 5, 1000, 0.5)).toBe(15_000);
    expect(delayBefore(ending(), 5, 1000, 0)).toBe(100);
  });

  it("are those that the hub asks for, with jitter, and never for ever", () => {
    expect(delayBefore(ending({ retry_ms: 2500 }), 9, 1000, 0.5)).toBe(3000);
    expect(delayBefore(ending({ retry_ms: 1e9 }), 0, 1000, 0)).toBe(600_000);
  });

  it("are long where a person has to act, and an agent that was replaced does not return", () => {
    expect(needsPerson(ending({ close: 4401 }))).toBe(true);
    expect(delayBefore(ending({ close: 4403 }), 0, 1000, 0)).toBe(15_000);
    expect([1000, 1001, 1006, 1012, 1013, 4400].map((close) => needsPerson(ending({ close })))).not.toContain(true);
    expect(isFinal(ending({ close: 4409 }))).toBe(true);
    expect(isFinal(ending({ error: "superseded" }))).toBe(true);
    expect(isFinal(ending({ close: 4401 }))).toBe(false);
  });
});

describe("search for a refused batch", () => {
  it("declares the batch lost that ends three connections alone, and no other", () => {
    const search = new RefusedBatchSearch();
    let acked = 0;
    const lost: number[] = [];
    for (let connection = 0; connection < 20 && acked < 9; connection++) {
      // The hub cannot read batch 5.
      const sent = search.isSearching(acked) ? acked + 1 : 9;
      if (sent < 5 || lost.includes(5)) acked = sent;
      else {
        const found = search.refused(sent, acked);
        if (found > 0) lost.push(found);
      }
    }
    expect([lost, acked, search.isSearching(9)]).toEqual([[5], 9, false]);
  });

  it("does not begin without a batch under way", () => {
    const search = new RefusedBatchSearch();
    expect([search.refused(4, 4), search.isSearching(4)]).toEqual([0, false]);
  });
});

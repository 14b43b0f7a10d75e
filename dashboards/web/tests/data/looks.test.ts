import { describe, expect, it } from "vitest";
import { type Look, recentLooks } from "../../src/data/looks";

describe("recentLooks", () => {
  it("keeps one look from before the span, so that a rate is always taken over all of it", () => {
    let looks: Look<null>[] = [];
    const look = (at_ms: number) => ({ told: null, at_ms });
    for (let at = 0; at <= 60_000; at += 1000) looks = recentLooks(looks, look(at));
    expect(looks.map(({ at_ms }) => at_ms)).toEqual([55_000, 56_000, 57_000, 58_000, 59_000, 60_000]);
    expect(recentLooks(looks, look(200_000)).map(({ at_ms }) => at_ms)).toEqual([60_000, 200_000]);
  });
});

import { describe, expect, it } from "vitest";
import { fromQuery, pan, rangeOfAtLeast, type TimeView, toQuery, zoom } from "../../src/chart/time_view";

const NOW = 1_000_000_000;
const live: TimeView = { mode: "live", span_ms: 60_000 };

describe("pan", () => {
  it("leaves the live edge and returns to it", () => {
    const past = pan(live, NOW, -0.5);
    expect(past).toEqual({ mode: "fixed", from: NOW - 90_000, to: NOW - 30_000 });
    expect(pan(past, NOW, 0.6)).toEqual(live);
  });

  it("never moves beyond now", () => {
    expect(pan(live, NOW, 0.3)).toEqual(live);
  });
});

describe("zoom", () => {
  it("keeps the time under the pointer in place", () => {
    const past: TimeView = { mode: "fixed", from: NOW - 200_000, to: NOW - 100_000 };
    const close = zoom(past, NOW, 0.5, 0.25);
    if (close.mode !== "fixed") throw new Error("went live");
    expect(close.to - close.from).toBeCloseTo(50_000);
    expect(close.from + 0.25 * 50_000).toBeCloseTo(NOW - 200_000 + 0.25 * 100_000);
  });

  it("stays live while the newest readings are visible", () => {
    expect(zoom(live, NOW, 2, 0.5)).toEqual({ mode: "live", span_ms: 120_000 });
    expect(zoom(live, NOW, 0.5, 1)).toEqual({ mode: "live", span_ms: 30_000 });
    expect(zoom(live, NOW, 0.5, 0.2).mode).toBe("fixed");
  });

  it("has limits", () => {
    expect(zoom(live, NOW, 1e-9, 1)).toEqual({ mode: "live", span_ms: 1000 });
    expect(zoom(live, NOW, 1e12, 1)).toEqual({ mode: "live", span_ms: 366 * 86_400_000 });
  });
});

describe("rangeOfAtLeast", () => {
  it("returns the next larger range, and nothing beyond the largest", () => {
    expect(rangeOfAtLeast(1)?.name).toBe("5m");
    expect(rangeOfAtLeast(5 * 60_000 + 1)?.name).toBe("5m");
    expect(rangeOfAtLeast(6 * 60_000)?.name).toBe("15m");
    expect(rangeOfAtLeast(8 * 86_400_000)).toBeUndefined();
  });
});

describe("the address", () => {
  it("stores a view and restores it", () => {
    const views: TimeView[] = [live, { mode: "live", span_ms: 3_600_000 }, { mode: "fixed", from: 1000, to: 9000 }];
    for (const view of views) expect(fromQuery(`?${toQuery(view)}`)).toEqual(view);
    expect(toQuery({ mode: "live", span_ms: 3_600_000 })).toBe("range=1h");
  });

  it("stores no invalid view", () => {
    for (const search of ["", "?range=soon", "?from=9&to=1", "?from=a&to=b"]) expect(fromQuery(search)).toBeNull();
  });
});

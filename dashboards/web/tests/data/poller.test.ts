import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Poller, pollDelay, recentSamples, type Sample } from "../../src/data/poller";

describe("pollDelay", () => {
  it("is about one period, doubles with each failure, and is at most twelve periods", () => {
    const delays = [0, 1, 2, 50].map((failures) => pollDelay(5_000, failures, 0.5));
    expect(delays).toEqual([5_000, 10_000, 20_000, 60_000]);
    expect([pollDelay(5_000, 0, 0), pollDelay(5_000, 0, 1)]).toEqual([4_000, 6_000]);
  });
});

describe("Poller", () => {
  const poll = (fetch: () => Promise<void>) => new Poller(fetch, 5_000).start();
  let visibility: string;
  let becomeVisible: () => void;
  beforeEach(() => {
    vi.useFakeTimers();
    visibility = "visible";
    vi.stubGlobal("document", {
      get visibilityState() {
        return visibility;
      },
      addEventListener: (_: string, listener: () => void) => {
        becomeVisible = listener;
      },
      removeEventListener: () => undefined,
    });
  });
  afterEach(() => {
    vi.useRealTimers();
    vi.unstubAllGlobals();
  });

  it("requests immediately and then periodically until it is stopped", async () => {
    let requests = 0;
    const stop = poll(async () => {
      requests += 1;
    });
    await vi.advanceTimersByTimeAsync(0);
    expect(requests).toBe(1);
    await vi.advanceTimersByTimeAsync(6_000);
    expect(requests).toBe(2);
    stop();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(requests).toBe(2);
  });

  it("does not request while the page is hidden, and requests when it becomes visible", async () => {
    let requests = 0;
    const stop = poll(async () => {
      requests += 1;
    });
    await vi.advanceTimersByTimeAsync(0);
    visibility = "hidden";
    await vi.advanceTimersByTimeAsync(120_000);
    expect(requests).toBe(1);
    visibility = "visible";
    becomeVisible();
    await vi.advanceTimersByTimeAsync(0);
    expect(requests).toBe(2);
    stop();
  });

  it("sends one request at a time, and fewer while they fail", async () => {
    let requests = 0;
    const stop = poll(async () => {
      requests += 1;
      throw new Error("no answer");
    });
    for (let i = 0; i < 5; i++) becomeVisible();
    await vi.advanceTimersByTimeAsync(0);
    expect(requests).toBe(1);
    await vi.advanceTimersByTimeAsync(7_900);
    expect(requests).toBe(1);
    await vi.advanceTimersByTimeAsync(4_200);
    expect(requests).toBe(2);
    stop();
  });
});

describe("recentSamples", () => {
  it("keeps one sample from before the span, so that a rate covers the whole span", () => {
    let samples: Sample<null>[] = [];
    const sample = (at_ms: number) => ({ value: null, at_ms });
    for (let at = 0; at <= 60_000; at += 1000) samples = recentSamples(samples, sample(at));
    expect(samples.map(({ at_ms }) => at_ms)).toEqual([55_000, 56_000, 57_000, 58_000, 59_000, 60_000]);
    expect(recentSamples(samples, sample(200_000)).map(({ at_ms }) => at_ms)).toEqual([60_000, 200_000]);
  });
});

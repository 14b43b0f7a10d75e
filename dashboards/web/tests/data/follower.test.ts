import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Follower, WAIT_S } from "../../src/data/follower";

/** A resource of two counters; the first one that is below its goal moves. */
class Counters {
  readonly values = [0, 0];
  readonly received: number[] = [];
  readonly requests: { key: string; signal: AbortSignal; answer: (value: number) => void; fail: () => void }[] = [];
  loads = 0;
  goals = [0, 0];
  readonly follower = new Follower<number>({
    load: async () => {
      this.loads += 1;
    },
    next: () => {
      const moving = this.values.findIndex((value, index) => value < this.goals[index]);
      if (moving < 0) return null;
      const seen = this.values[moving];
      return {
        key: String(moving),
        request: (signal) =>
          new Promise((answer, reject) => {
            signal.addEventListener("abort", reject);
            this.requests.push({ key: String(moving), signal, answer, fail: () => reject(new Error("lost")) });
          }),
        isNews: (value) => value > seen,
      };
    },
    receive: (value) => {
      this.received.push(value);
      this.values[this.values.findIndex((known, index) => known < this.goals[index])] = value;
    },
  });
}

describe("Follower", () => {
  let counters: Counters;
  beforeEach(async () => {
    vi.useFakeTimers();
    vi.stubGlobal("document", {
      visibilityState: "visible",
      addEventListener: () => undefined,
      removeEventListener: () => undefined,
    });
    counters = new Counters();
    await vi.advanceTimersByTimeAsync(0);
  });
  afterEach(() => {
    counters.follower.close();
    vi.useRealTimers();
    vi.unstubAllGlobals();
  });
  const settle = () => vi.advanceTimersByTimeAsync(0);

  it("waits for one change after the other while something moves", async () => {
    expect([counters.loads, counters.requests.length]).toEqual([1, 0]);
    counters.goals = [2, 0];
    void counters.follower.follow();
    void counters.follower.follow();
    expect(counters.requests.length).toBe(1);
    counters.requests[0].answer(1);
    await settle();
    expect(counters.requests.length).toBe(2);
    counters.requests[1].answer(2);
    await settle();
    expect([counters.received, counters.requests.length]).toEqual([[1, 2], 2]);
  });

  it("ends its request when something else moves", async () => {
    counters.goals = [0, 1];
    void counters.follower.follow();
    counters.goals = [1, 1];
    void counters.follower.follow();
    await settle();
    expect(counters.requests.map(({ key, signal }) => [key, signal.aborted])).toEqual([
      ["1", true],
      ["0", false],
    ]);
  });

  it("leaves the rest to the poller after a failure, and after an answer at once without news", async () => {
    counters.goals = [1, 0];
    void counters.follower.follow();
    counters.requests[0].answer(0);
    await settle();
    expect([counters.received, counters.requests.length]).toEqual([[], 1]);
    await vi.advanceTimersByTimeAsync(10_000);
    expect(counters.loads).toBeGreaterThan(1);
    expect(counters.requests.length).toBe(2);
    counters.requests[1].fail();
    await settle();
    expect(counters.requests.length).toBe(2);
  });

  it("asks again after the time of a request without news", async () => {
    counters.goals = [1, 0];
    void counters.follower.follow();
    await vi.advanceTimersByTimeAsync(WAIT_S * 1000);
    counters.requests[0].answer(0);
    await settle();
    expect(counters.requests.length).toBe(2);
  });

  it("ends its request when it is closed", async () => {
    counters.goals = [1, 0];
    void counters.follower.follow();
    counters.follower.close();
    await settle();
    void counters.follower.follow();
    expect(counters.requests.map(({ signal }) => signal.aborted)).toEqual([true]);
  });
});

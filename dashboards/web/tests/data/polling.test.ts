import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { pause, poll } from "../../src/data/polling";

describe("pause", () => {
  it("is about 5 s, doubles with each failure, and stays below a minute and a bit", () => {
    expect([pause(0, 0.5), pause(1, 0.5), pause(2, 0.5), pause(50, 0.5)]).toEqual([
      5_000, 10_000, 20_000, 60_000,
    ]);
    expect([pause(0, 0), pause(0, 1)]).toEqual([4_000, 6_000]);
  });
});

describe("poll", () => {
  let visibility: string;
  let seen: () => void;
  beforeEach(() => {
    vi.useFakeTimers();
    visibility = "visible";
    vi.stubGlobal("window", { setTimeout });
    vi.stubGlobal("document", {
      get visibilityState() {
        return visibility;
      },
      addEventListener: (_: string, listener: () => void) => {
        seen = listener;
      },
      removeEventListener: () => undefined,
    });
  });
  afterEach(() => {
    vi.useRealTimers();
    vi.unstubAllGlobals();
  });

  it("looks at once and then now and then, until it is ended", async () => {
    let looks = 0;
    const end = poll(async () => {
      looks += 1;
    });
    await vi.advanceTimersByTimeAsync(0);
    expect(looks).toBe(1);
    await vi.advanceTimersByTimeAsync(6_000);
    expect(looks).toBe(2);
    end();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(looks).toBe(2);
  });

  it("does not look while nobody sees it, and looks when it is seen again", async () => {
    let looks = 0;
    const end = poll(async () => {
      looks += 1;
    });
    await vi.advanceTimersByTimeAsync(0);
    visibility = "hidden";
    await vi.advanceTimersByTimeAsync(120_000);
    expect(looks).toBe(1);
    visibility = "visible";
    seen();
    await vi.advanceTimersByTimeAsync(0);
    expect(looks).toBe(2);
    end();
  });

  it("never looks twice at a time, and less often while it fails", async () => {
    let looks = 0;
    const end = poll(async () => {
      looks += 1;
      throw new Error("no answer");
    });
    for (let i = 0; i < 5; i++) seen();
    await vi.advanceTimersByTimeAsync(0);
    expect(looks).toBe(1);
    await vi.advanceTimersByTimeAsync(7_900);
    expect(looks).toBe(1);
    await vi.advanceTimersByTimeAsync(4_200);
    expect(looks).toBe(2);
    end();
  });
});

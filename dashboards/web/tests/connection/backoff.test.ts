import { describe, expect, it } from "vitest";
import { backoff, FIRST_CEILING_MS, MAX_CEILING_MS } from "../../src/connection/backoff";

describe("backoff", () => {
  it("is anywhere between nothing and a ceiling that doubles up to its bound", () => {
    expect(backoff(0, 0)).toBe(0);
    expect(backoff(0, 1)).toBe(FIRST_CEILING_MS);
    expect(backoff(2, 1)).toBe(4 * FIRST_CEILING_MS);
    expect(backoff(1000, 1)).toBe(MAX_CEILING_MS);
  });
});

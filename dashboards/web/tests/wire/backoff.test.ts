import { expect, it } from "vitest";
import { fullJitter } from "../../src/wire/backoff";

it("draws the delay below a bound that doubles up to the longest one", () => {
  for (let attempt = 0; attempt < 40; attempt++)
    expect(fullJitter(attempt, 500, 15_000, 1)).toBe(Math.min(15_000, 500 * 2 ** attempt));
  expect(fullJitter(1e9, 500, 15_000, 1)).toBe(15_000);
  expect([fullJitter(2, 500, 15_000, 0.5), fullJitter(2, 500, 15_000, 0)]).toEqual([1000, 0]);
});

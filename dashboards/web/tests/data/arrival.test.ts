import { describe, expect, it } from "vitest";
import { describeRefusal, refusedSince } from "../../src/data/arrival";

const WRONG = {
  code: "not_authenticated",
  reason: "the token is not valid",
  remedy: "create a token",
  path: "/v1/plain",
  peer: "192.0.2.7",
  count: 3,
  last_ns: 1,
};

describe("refusedSince", () => {
  it("counts only what was refused after the page was opened", () => {
    const other = { ...WRONG, peer: "192.0.2.8" };
    expect(refusedSince([WRONG], [{ ...WRONG, count: 5 }, other])).toEqual([{ ...WRONG, count: 2 }, other]);
    expect(refusedSince([WRONG], [WRONG])).toEqual([]);
  });

  it("counts anew after a restart of the hub", () => {
    expect(refusedSince([WRONG], [{ ...WRONG, count: 1 }])).toEqual([{ ...WRONG, count: 1 }]);
  });

  it("leaves out requests that no device sends", () => {
    expect(refusedSince([], [{ ...WRONG, path: "/api/v1/hub" }])).toEqual([]);
    expect(refusedSince([], [{ ...WRONG, code: "tls_not_tls", path: "" }])).toHaveLength(1);
  });
});

describe("describeRefusal", () => {
  it("names the number, the address, the path and the reason", () => {
    expect(describeRefusal(WRONG)).toBe("3 attempts from 192.0.2.7 at /v1/plain were refused: the token is not valid");
    expect(describeRefusal({ ...WRONG, count: 1, path: "", reason: "" })).toBe("1 attempt from 192.0.2.7 was refused");
  });
});

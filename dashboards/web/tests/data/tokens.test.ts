import { describe, expect, it } from "vitest";
import { approvalHint, isExpired, matchTokens, revocationHint, tokenRequest } from "../../src/data/tokens";
import type { SessionDetails, TokenDetails } from "../../src/wire/api";

function token(id: string, role = "viewer", more: Partial<TokenDetails> = {}): TokenDetails {
  return { id, role, pattern: "", label: "", created_ns: 0, last_used_ns: null, expires_ns: null, ...more };
}

function session(tokenId: string, current = false): SessionDetails {
  return {
    id: "s",
    token: tokenId,
    role: "admin",
    label: "",
    created_ns: 0,
    last_used_ns: null,
    expires_ns: 1,
    current,
  };
}

describe("tokenRequest", () => {
  it("has a device or a pattern only for the roles that need it", () => {
    expect(tokenRequest("device", "pump", " hall ", null)).toEqual({ role: "device", device: "pump", label: "hall" });
    expect(tokenRequest("gateway", "plant-*", "", null)).toEqual({ role: "gateway", devices: "plant-*", label: "" });
    expect(tokenRequest("viewer", "left over", "", 3_600_000)).toEqual({
      role: "viewer",
      label: "",
      expires_in_s: 3600,
    });
  });
});

describe("matchTokens", () => {
  it("finds every word in id, role, devices or label", () => {
    const tokens = [token("abc", "device", { pattern: "pump-1" }), token("def", "viewer", { label: "Wall display" })];
    const found = (words: string) => matchTokens(tokens, words).map(({ id }) => id);
    expect(found("")).toEqual(["abc", "def"]);
    expect(found("PUMP device")).toEqual(["abc"]);
    expect(found("wall view")).toEqual(["def"]);
    expect(found("wall pump")).toEqual([]);
  });
});

describe("isExpired", () => {
  it("is true from the moment of the expiry", () => {
    expect(isExpired(token("a", "viewer", { expires_ns: 5e6 }), 4)).toBe(false);
    expect(isExpired(token("a", "viewer", { expires_ns: 5e6 }), 5)).toBe(true);
    expect(isExpired(token("a"), 1e15)).toBe(false);
  });
});

describe("approvalHint", () => {
  const request = { code: "WDJB-MJHT", device: "boiler", program: "", address: "10.0.0.7", age_s: 1, expires_in_s: 9 };

  it("names the device and the address, and what a known device keeps", () => {
    const fresh = approvalHint({ ...request, is_known: false, tokens: 0 });
    expect(fresh).toContain("10.0.0.7");
    expect(fresh).not.toContain("history");
    const known = approvalHint({ ...request, is_known: true, tokens: 2 });
    expect(known).toContain("its history continues");
    expect(known).toContain("revoke those that are lost");
  });
});

describe("revocationHint", () => {
  it("explains what a device does without its token", () => {
    const device = token("d", "device");
    expect(revocationHint(device, [device], [], 0)).toContain("keeps its readings in its spool");
  });

  it("counts the browsers that are signed out, and mentions the own one", () => {
    const viewer = token("v");
    expect(revocationHint(viewer, [viewer], [session("v"), session("w")], 0)).toContain("One browser");
    expect(revocationHint(viewer, [viewer], [session("v"), session("v")], 0)).toContain("2 browsers");
    expect(revocationHint(viewer, [viewer], [session("v", true)], 0)).toContain("You are signed in with this token");
  });

  it("says whether the token is in use", () => {
    const used = token("d", "device", { last_used_ns: 1e15 });
    expect(revocationHint(used, [used], [], 1e9 + 61_000)).toContain("It is in use.");
    expect(revocationHint(used, [used], [], 1e9 + 600_000)).not.toContain("in use");
  });

  it("warns before the last valid admin token is revoked", () => {
    const [admin, expired] = [token("a", "admin"), token("b", "admin", { expires_ns: 1e6 })];
    expect(revocationHint(admin, [admin, expired], [], 2)).toContain("only admin token");
    expect(revocationHint(admin, [admin, token("c", "admin")], [], 2)).not.toContain("only admin token");
  });
});

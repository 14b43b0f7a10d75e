import { describe, expect, it } from "vitest";
import { BLOCKED_AFTER, type Cause, type Diagnosis, diagnose, type Probe } from "../../src/connection/diagnosis";
import { causeText } from "../../src/ui/status_text";

function causeOf(diagnosis: Diagnosis): Cause {
  if (diagnosis.kind !== "refused") throw new Error(`expected a cause, got ${diagnosis.kind}`);
  return diagnosis.cause;
}

function checked(code: string, reason = "", remedy = ""): Probe {
  return { kind: "checked", check: { code, reason, remedy } };
}

describe("diagnose", () => {
  it("finds no cause for a hub that does not answer", () => {
    expect(diagnose({ kind: "silent" }, 0)).toEqual({ kind: "unreachable" });
    expect(diagnose({ kind: "silent" }, 9)).toEqual({ kind: "unreachable" });
  });

  it("repeats the hub's reason and remedy", () => {
    const probe = checked("origin_not_allowed", "the page comes from https://a", 'add "https://a" to the setting');
    const cause = causeOf(diagnose(probe, 0));
    expect(causeText(cause)).toBe('The page comes from https://a. Add "https://a" to the setting.');
    expect(causeOf(diagnose(checked("upgrade_lost", "lost", "pass it"), 0))).toEqual({
      reason: "lost",
      remedy: "pass it",
    });
  });

  it("recognises an expired session", () => {
    expect(diagnose(checked("not_authenticated", "no valid token", "sign in"), 0)).toEqual({ kind: "signed_out" });
  });

  it("reports a blocked path only after repeated attempts that the hub would accept", () => {
    expect(diagnose(checked("ok"), BLOCKED_AFTER - 1)).toEqual({ kind: "unreachable" });
    expect(causeOf(diagnose(checked("ok"), BLOCKED_AFTER)).remedy).toContain("pass WebSocket upgrades");
  });

  it("repeats the sentence of a refusal by the hub", () => {
    const detail = 'this hub is not known as x; if it is, add "x" to access.allowed_hosts';
    expect(causeText(causeOf(diagnose({ kind: "refused", status: 403, detail }, 0)))).toContain("access.allowed_hosts");
    // An older hub does not have the check.
    expect(diagnose({ kind: "refused", status: 404, detail: "there is no such path" }, 0).kind).toBe("unreachable");
  });

  it.each([
    [401, "asks for a login"],
    [403, "forbids"],
    [404, "does not answer as a hub (404)"],
    [200, "does not answer as a hub (200)"],
    [502, "does not reach the hub (502)"],
    [503, "does not reach the hub (503)"],
    [504, "does not reach the hub (504)"],
  ])("names the proxy for its own answer %i", (status, words) => {
    const cause = causeOf(diagnose({ kind: "refused", status, detail: null }, 0));
    expect(cause.reason).toContain(words);
    expect(cause.remedy).not.toBe("");
  });

  it("recognises the redirect of a proxy", () => {
    expect(causeOf(diagnose({ kind: "redirect" }, 0)).remedy).toContain("Reload the page");
  });
});

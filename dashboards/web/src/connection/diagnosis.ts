/**
 * Cause of a missing live connection. A browser hides why a WebSocket failed, so the page asks the hub over plain HTTP
 * what its WebSocket endpoint would answer. The rules are pure; `data/api.ts` sends the request.
 */

import type { ConnectionCheck } from "../wire/api";

/** Why there is no live connection, and what to do: two sentences for people. */
export interface Cause {
  reason: string;
  remedy: string;
}

/**
 * Outcome of the check. `silent`: no answer. `redirect`: a proxy sends the request elsewhere. `refused`: an answer that
 * is no check; `detail` is the sentence of the hub's problem document, null if the answer is not the hub's.
 */
export type Probe =
  | { kind: "silent" }
  | { kind: "redirect" }
  | { kind: "refused"; status: number; detail: string | null }
  | { kind: "checked"; check: ConnectionCheck };

/** `unreachable`: the hub does not answer, or the check found nothing. */
export type Diagnosis = { kind: "unreachable" } | { kind: "signed_out" } | { kind: "refused"; cause: Cause };

/** Failed attempts in a row that the hub would have accepted, before the path to it is considered blocked. */
export const BLOCKED_AFTER = 2;

const UNREACHABLE: Diagnosis = { kind: "unreachable" };

/** Return the cause of a failed attempt. `accepted` counts the failed attempts in a row whose check was `ok`. */
export function diagnose(probe: Probe, accepted: number): Diagnosis {
  switch (probe.kind) {
    case "silent":
      return UNREACHABLE;
    case "redirect":
      return refused(
        "A proxy in front of the hub redirects the requests of this page.",
        "Reload the page: the proxy may ask you to sign in.",
      );
    case "refused":
      return diagnoseRefusal(probe.status, probe.detail);
    case "checked":
      return diagnoseCheck(probe.check, accepted);
  }
}

function diagnoseRefusal(status: number, detail: string | null): Diagnosis {
  // A hub of another version does not have the check.
  if (detail !== null) return status === 404 || status === 405 ? UNREACHABLE : refused(detail, "");
  switch (status) {
    case 401:
      return refused("A proxy in front of the hub asks for a login.", "Reload the page to sign in at the proxy.");
    case 403:
      return refused("A proxy in front of the hub forbids the requests of this page (403).", "Ask its operator.");
    case 502:
    case 503:
    case 504:
      return refused(
        `The proxy in front of the hub does not reach the hub (${status}).`,
        "Start the hub, or correct its address in the proxy.",
      );
    default:
      return refused(
        `The server at this address does not answer as a hub (${status}).`,
        "Check where the proxy in front of the hub sends the path /api/v1.",
      );
  }
}

function diagnoseCheck({ code, reason, remedy }: ConnectionCheck, accepted: number): Diagnosis {
  switch (code) {
    case "ok":
      return accepted < BLOCKED_AFTER
        ? UNREACHABLE
        : refused(
            "HTTP reaches the hub, but WebSockets do not.",
            "Let the proxy, firewall or security program between this browser and the hub pass WebSocket upgrades.",
          );
    case "not_authenticated":
      return { kind: "signed_out" };
    default:
      return refused(reason, remedy);
  }
}

function refused(reason: string, remedy: string): Diagnosis {
  return { kind: "refused", cause: { reason, remedy } };
}

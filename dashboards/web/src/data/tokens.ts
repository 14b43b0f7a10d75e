/** Tokens and signed-in browsers, as an admin sees them. */

import { type Signal, signal } from "@preact/signals";
import type { AccessRequestDetails, SessionDetails, TokenDetails, TokenRequest } from "../wire/api";
import { fetchSessions, fetchTokens } from "./api";
import { DAY, HOUR, MINUTE } from "./time";

export type Role = TokenRequest["role"];

/** Roles with what their tokens are for. */
export const ROLES: Record<Role, string> = {
  device: "Device: writes as one device",
  gateway: "Gateway: writes as the devices of a pattern",
  viewer: "Viewer: reads",
  operator: "Operator: reads, handles the quarantine, retires devices",
  admin: "Admin: all of that, and tokens",
};

/** Lifetimes to choose from, in milliseconds; null for a token that does not expire. */
export const LIFETIMES: [string, number | null][] = [
  ["Does not expire", null],
  ["1 hour", HOUR],
  ["1 day", DAY],
  ["7 days", 7 * DAY],
  ["30 days", 30 * DAY],
  ["90 days", 90 * DAY],
  ["1 year", 365 * DAY],
];

/** Lists that are longer than one answer of the hub are loaded again only after a change, and not periodically. */
const MAX_POLLED = 1000;

/** The hub counts an open connection as a use each minute. */
const IN_USE_MS = 2 * MINUTE;

export class AccessList {
  /** Newest first; null until they are loaded. */
  readonly tokens: Signal<TokenDetails[] | null> = signal(null);
  readonly sessions: Signal<SessionDetails[]> = signal([]);

  async refresh(): Promise<void> {
    const [tokens, sessions] = await Promise.all([fetchTokens(), fetchSessions()]);
    this.tokens.value = tokens.reverse();
    this.sessions.value = sessions.reverse();
  }

  /** Refresh a list that is short enough. */
  async poll(): Promise<void> {
    if ((this.tokens.peek()?.length ?? 0) <= MAX_POLLED) await this.refresh();
  }
}

/** Return the request for a token. `subject` is the device or the pattern of devices. */
export function tokenRequest(role: Role, subject: string, label: string, lifetime_ms: number | null): TokenRequest {
  const request: TokenRequest = { role, label: label.trim() };
  if (role === "device") request.device = subject;
  if (role === "gateway") request.devices = subject;
  if (lifetime_ms !== null) request.expires_in_s = lifetime_ms / 1000;
  return request;
}

/** Return the tokens that contain all of these words in their id, role, devices or label. */
export function matchTokens(tokens: readonly TokenDetails[], words: string): TokenDetails[] {
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
  return tokens.filter(({ id, role, pattern, label }) => {
    const text = `${id} ${role} ${pattern} ${label}`.toLowerCase();
    return wanted.every((word) => text.includes(word));
  });
}

export function isExpired({ expires_ns }: TokenDetails, now_ms: number): boolean {
  return expires_ns !== null && now_ms >= expires_ns / 1e6;
}

/** Return what the approval of an access request causes, for the question before it. */
export function approvalHint({ device, address, is_known, tokens }: AccessRequestDetails): string {
  const hints = [`Its agent, at ${address}, receives a token and writes as ${device}.`];
  if (is_known) hints.push("The device is known: its history continues.");
  if (tokens > 0) hints.push("Tokens that it has already stay valid: revoke those that are lost.");
  return [...hints, "Refuse the request if the codes differ."].join(" ");
}

/** Return what the revocation of a token causes, for the question before it. */
export function revocationHint(
  token: TokenDetails,
  tokens: readonly TokenDetails[],
  sessions: readonly SessionDetails[],
  now_ms: number,
): string {
  const { id, role } = token;
  const hints = [];
  if (token.last_used_ns !== null && now_ms - token.last_used_ns / 1e6 < IN_USE_MS) hints.push("It is in use.");
  if (role === "device" || role === "gateway")
    hints.push("Its connections end. The device keeps its readings in its spool until it has a new token.");
  const signedIn = sessions.filter((session) => session.token === id);
  if (signedIn.some(({ current }) => current)) hints.push("You are signed in with this token, and you are signed out.");
  else if (signedIn.length === 1) hints.push("One browser that is signed in with it is signed out.");
  else if (signedIn.length > 1) hints.push(`${signedIn.length} browsers that are signed in with it are signed out.`);
  const admins = tokens.filter((other) => other.role === "admin" && !isExpired(other, now_ms));
  if (role === "admin" && admins.length === 1 && admins[0].id === id)
    hints.push("It is the only admin token: a new one is created on the machine of the hub, with `hub token create`.");
  return [...hints, "This cannot be undone."].join(" ");
}

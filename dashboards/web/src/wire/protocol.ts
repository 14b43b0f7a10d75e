/** Error codes, close codes and limits of the live protocol: the counterpart of wire/errors.py and wire/limits.py. */

export const CODES = [
  "bad_message",
  "wrong_frame",
  "too_large",
  "unexpected_message",
  "unexpected_seq",
  "window_exceeded",
  "rolled_back",
  "not_authenticated",
  "not_allowed",
  "revoked",
  "superseded",
  "shutting_down",
  "too_many_frames",
  "busy",
  "storage_full",
  "storage_failed",
  "unknown_metric",
  "type_conflict",
  "wrong_type",
  "out_of_range",
  "not_finite",
  "length_mismatch",
  "empty",
  "unknown_subscription",
  "duplicate_subscription",
  "too_many",
  "unavailable",
] as const;

/** Why a message or connection was rejected. The codes are stable: programs may match on them. */
export type Code = (typeof CODES)[number];

/** WebSocket close codes: RFC 6455 section 7.4, and the hub's own above 4000. */
export const Close = {
  NORMAL: 1000,
  GOING_AWAY: 1001,
  POLICY_VIOLATION: 1008,
  TOO_BIG: 1009,
  INTERNAL_ERROR: 1011,
  SERVICE_RESTART: 1012,
  TRY_AGAIN_LATER: 1013,
  BAD_MESSAGE: 4400,
  NOT_AUTHENTICATED: 4401,
  NOT_ALLOWED: 4403,
  SUPERSEDED: 4409,
} as const;

/** A message that violates the protocol, with the code and an explanation. */
export class WireError extends Error {
  readonly code: Code;
  constructor(code: Code, message: string) {
    super(`${code}: ${message}`);
    this.name = "WireError";
    this.code = code;
  }
}

export const MAX_METRIC_NAME = 128;
export const MAX_TOKEN = 256;
export const MAX_SOURCES = 16;
export const MAX_SOURCE_NAME = 128;
export const MAX_SOURCE_ERROR = 256;
export const MAX_SEQ = 2 ** 53 - 1;
export const MAX_TIME_NS = 2 ** 63;
export const MAX_SELECTORS = 1024;
export const MAX_HISTORY_POINTS = 4000;
export const MAX_HISTORY_SPAN_MS = 10 * 366 * 86_400_000;
export const MIN_PERIOD_MS = 20;
export const MAX_PERIOD_MS = 60_000;

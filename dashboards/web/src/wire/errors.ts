/** Error codes and close codes: the counterpart of wire/errors.py. */

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

/** Why a message or a connection was refused. Stable: programs may match on them. */
export type Code = (typeof CODES)[number];

/** WebSocket close codes (RFC 6455 section 7.4, and the hub's own above 4000). */
export const Close = {
  NORMAL: 1000,
  GOING_AWAY: 1001,
  TOO_BIG: 1009,
  INTERNAL_ERROR: 1011,
  SERVICE_RESTART: 1012,
  TRY_AGAIN_LATER: 1013,
  BAD_MESSAGE: 4400,
  NOT_AUTHENTICATED: 4401,
  NOT_ALLOWED: 4403,
  SUPERSEDED: 4409,
} as const;

/** A message that the protocol refuses: the stable code and a sentence. */
export class WireError extends Error {
  readonly code: Code;
  constructor(code: Code, message: string) {
    super(`${code}: ${message}`);
    this.name = "WireError";
    this.code = code;
  }
}

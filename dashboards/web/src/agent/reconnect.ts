/** Decision whether and when an agent reconnects, and the search for a batch that the hub cannot read. Pure. As agent_client. */

import { fullJitter } from "../wire/backoff";
import { Close, type Code } from "../wire/protocol";

/** Bound of the first delay before a welcome of the hub sets another one. */
export const FIRST_DELAY_MS = 1000;
/** Bound of every delay: the whole fleet is connected half a minute after the hub returns. */
export const MAX_DELAY_MS = 30_000;
/** Floor of every delay: even if each connection fails at once, an agent connects at most ten times a second. */
const MIN_DELAY_MS = 100;
/** Longest wait that a hub can impose. */
const MAX_RETRY_MS = 600_000;

/** The end of a connection, or of an attempt, and the reason that the hub gave. */
export interface Ending {
  reason: string;
  close: number;
  error: Code | null;
  retry_ms: number | null;
}

const RETRYABLE: ReadonlySet<number> = new Set([
  Close.NORMAL,
  Close.GOING_AWAY,
  // A close frame without a code, and no close frame at all: the connection broke.
  1005,
  1006,
  Close.INTERNAL_ERROR,
  Close.SERVICE_RESTART,
  Close.TRY_AGAIN_LATER,
  Close.BAD_MESSAGE,
]);

/** Return whether reconnecting would only repeat the end: two agents with one id disconnect each other without end. */
export function isFinal({ close, error }: Ending): boolean {
  return close === Close.SUPERSEDED || error === "superseded";
}

/** Return whether a person has to correct the cause, such as a token. */
export function needsPerson({ close }: Ending): boolean {
  return !RETRYABLE.has(close);
}

/**
 * Return the delay before the next attempt, with full jitter. `attempt` counts the attempts since the last progress,
 * from 0; `random` is between 0 and 1.
 */
export function delayBefore(ending: Ending, attempt: number, first_ms: number, random: number): number {
  if (ending.retry_ms !== null)
    return Math.max(MIN_DELAY_MS, Math.min(ending.retry_ms, MAX_RETRY_MS) + random * first_ms);
  if (needsPerson(ending)) return (MAX_DELAY_MS * (1 + random)) / 2;
  return Math.max(MIN_DELAY_MS, fullJitter(attempt, first_ms, MAX_DELAY_MS, random));
}

/** A batch that was refused this often when sent alone is declared lost. Fewer could be an accident of the network. */
const REFUSALS = 3;

/**
 * Search for a batch that the hub cannot read, and that ends every connection with `bad_message`. The hub does not name
 * it, so the batches of that connection are sent again one at a time: one that ends several connections alone is it.
 */
export class RefusedBatchSearch {
  private until = 0;
  private seq = 0;
  private refusals = 0;

  /** Record a `bad_message` on a connection with these numbers; return a batch to declare lost, 0 if it is unknown. */
  refused(sent: number, acked: number): number {
    if (sent <= acked) return 0;
    const isAlone = this.until > 0 && sent === acked + 1;
    this.until = Math.max(this.until, sent);
    if (!isAlone) return 0;
    this.refusals = this.seq === sent ? this.refusals + 1 : 1;
    this.seq = sent;
    if (this.refusals < REFUSALS) return 0;
    this.seq = 0;
    this.refusals = 0;
    return sent;
  }

  /** Return whether batches are sent one at a time. */
  isSearching(acked: number): boolean {
    if (acked >= this.until) this.until = 0;
    return this.until > 0;
  }
}

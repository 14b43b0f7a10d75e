/** How long to wait before the next attempt: full jitter, so that a thousand pages do not come back at once. */

export const FIRST_CEILING_MS = 500;
export const MAX_CEILING_MS = 15_000;

/** The wait before attempt number `attempt` (0: the first after a break), `random` from 0 to 1. */
export function backoff(attempt: number, random: number): number {
  const ceiling = Math.min(MAX_CEILING_MS, FIRST_CEILING_MS * 2 ** Math.min(attempt, 16));
  return Math.round(ceiling * random);
}

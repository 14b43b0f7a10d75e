/** Full-jitter backoff, the one reconnect delay of the page. Pure: the randomness is an argument. As wire/backoff.py. */

/** Every bound is reached after this many doublings. The limit keeps the exponent small after weeks of retries. */
const MAX_DOUBLINGS = 30;

/**
 * Return the delay before retry number `attempt`, counted from 0: evenly between zero and a bound, which doubles from
 * `first_ms` to `max_ms`, so that many clients do not reconnect at once (Marc Brooker, "Exponential Backoff And Jitter",
 * 2015). `random` is between 0 and 1.
 */
export function fullJitter(attempt: number, first_ms: number, max_ms: number, random: number): number {
  return random * Math.min(max_ms, first_ms * 2 ** Math.min(attempt, MAX_DOUBLINGS));
}

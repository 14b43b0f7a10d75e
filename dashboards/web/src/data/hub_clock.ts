/** The hub's time, as the page knows it: the browser's steady clock, set by what the hub says. */

let ahead_ms = 0;

function steady(): number {
  return performance.timeOrigin + performance.now();
}

/** Sets the clock by a time that the hub has just told. */
export function setHubTime(time_ms: number): void {
  ahead_ms = time_ms - steady();
}

/** Milliseconds since 1970 UTC by the hub's clock. */
export function hubNow(): number {
  return steady() + ahead_ms;
}

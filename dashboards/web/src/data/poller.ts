/** The one poller of the page: requests a resource repeatedly while the page is visible. */

import { type Signal, signal } from "@preact/signals";
import { ApiError } from "./api";

/** Rates are computed over this time. Over one second, a store that writes every three seconds has no steady rate. */
const RATE_SPAN_MS = 5000;
/** After failures the delay doubles up to this many periods. */
const MAX_PERIODS = 12;

/** One answer of the hub. `at_ms` is the time of the request by `performance.now()`. */
export interface Sample<T> {
  value: T;
  at_ms: number;
}

/** Return the samples to keep: all within the rate span, and the newest one before it. */
export function recentSamples<T>(samples: Sample<T>[], newest: Sample<T>): Sample<T>[] {
  const all = [...samples, newest];
  const first = all.findLastIndex(({ at_ms }) => at_ms <= newest.at_ms - RATE_SPAN_MS);
  return all.slice(Math.max(0, first));
}

/** Return the delay before the next request. `random` (0 to 1) spreads the requests of many pages by 20 %. */
export function pollDelay(period_ms: number, failures: number, random: number): number {
  const delay_ms = period_ms * Math.min(MAX_PERIODS, 2 ** Math.min(failures, 10));
  return Math.round(delay_ms * (0.8 + 0.4 * random));
}

export class Poller<T> {
  readonly samples: Signal<Sample<T>[]> = signal([]);
  /** Why the last request failed; null after a successful one. */
  readonly problem: Signal<string | null> = signal(null);
  private readonly fetch: () => Promise<T>;
  private readonly period_ms: number;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private failures = 0;
  private requesting = false;
  private running = false;

  constructor(fetch: () => Promise<T>, period_ms: number) {
    this.fetch = fetch;
    this.period_ms = period_ms;
  }

  /** Request now and then periodically. Return the function that stops the poller. */
  start(): () => void {
    this.running = true;
    document.addEventListener("visibilitychange", this.request);
    this.request();
    return () => {
      this.running = false;
      clearTimeout(this.timer);
      document.removeEventListener("visibilitychange", this.request);
    };
  }

  /** Send one request at a time, and none while the page is hidden. Becoming visible sends one immediately. */
  private readonly request = async (): Promise<void> => {
    clearTimeout(this.timer);
    if (!this.running || this.requesting || document.visibilityState === "hidden") return;
    this.requesting = true;
    const at_ms = performance.now();
    try {
      const value = await this.fetch();
      this.samples.value = recentSamples(this.samples.value, { value, at_ms });
      this.problem.value = null;
      this.failures = 0;
    } catch (error) {
      this.problem.value = error instanceof ApiError ? error.message : "The hub does not respond.";
      this.failures += 1;
    }
    this.requesting = false;
    if (!this.running) return;
    this.timer = setTimeout(this.request, pollDelay(this.period_ms, this.failures, Math.random()));
  };
}

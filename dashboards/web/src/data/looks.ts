/** What the hub tells of itself, asked for again and again, so that rates can be made of its counts. */

import { type Signal, signal } from "@preact/signals";
import { ApiError } from "./api";

/** Between two looks. */
const PERIOD_MS = 1000;
/** Rates are taken over this time: what writes in gulps has none from second to second. */
const SPAN_MS = 5000;

export interface Look<Told> {
  told: Told;
  /** When it was asked for, by the page's own clock. */
  at_ms: number;
}

/** The looks to keep: the newest one that is older than the span, and all that are younger. */
export function recentLooks<Told>(looks: Look<Told>[], newest: Look<Told>): Look<Told>[] {
  const all = [...looks, newest];
  const first = all.findLastIndex(({ at_ms }) => at_ms <= newest.at_ms - SPAN_MS);
  return all.slice(Math.max(0, first));
}

/** One question at a time; a hub that does not answer is asked again. */
export class Looks<Told> {
  readonly looks: Signal<Look<Told>[]> = signal([]);
  /** Why the newest look is not of now. */
  readonly problem: Signal<string | null> = signal(null);
  private readonly fetch: () => Promise<Told>;
  private timer = 0;
  private open = false;

  constructor(fetch: () => Promise<Told>) {
    this.fetch = fetch;
  }

  start(): void {
    this.open = true;
    void this.ask();
  }

  stop(): void {
    this.open = false;
    window.clearTimeout(this.timer);
  }

  private async ask(): Promise<void> {
    if (document.visibilityState === "visible") {
      const at_ms = performance.now();
      try {
        const told = await this.fetch();
        this.looks.value = recentLooks(this.looks.value, { told, at_ms });
        this.problem.value = null;
      } catch (error) {
        this.problem.value = error instanceof ApiError ? error.message : "The hub does not answer.";
      }
    }
    if (this.open) this.timer = window.setTimeout(() => void this.ask(), PERIOD_MS);
  }
}

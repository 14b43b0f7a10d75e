/** The hub's books, asked for again and again, and how fast each way of the data is. */

import { type Signal, signal } from "@preact/signals";
import { ApiError, type Books, type Flow, fetchFlow } from "./api";

/** Between two looks at the books. */
const PERIOD_MS = 1000;
/** Rates are taken over this time: a store writes in gulps. */
const SPAN_MS = 5000;
/** Devices that the page shows; the hub sends those that do not balance first. */
export const SHOWN_DEVICES = 100;

export interface Look {
  flow: Flow;
  /** When it was asked for, by the page's own clock. */
  at_ms: number;
}

/** Readings a second; null where it cannot be told yet. */
export interface Rates {
  accepted: number | null;
  stored: number | null;
}

/** How fast readings came in and were stored between two looks. What a retention deleted was stored all the same. */
export function ratesOf(before: Look | undefined, now: Look): Rates {
  const seconds = before === undefined ? 0 : (now.at_ms - before.at_ms) / 1000;
  if (before === undefined || seconds <= 0 || before.flow.journal.id !== now.flow.journal.id)
    return { accepted: null, stored: null };
  const was = dealt(before.flow.totals);
  const is = dealt(now.flow.totals);
  return {
    accepted: Math.max(0, now.flow.totals.accepted - before.flow.totals.accepted) / seconds,
    stored: was === null || is === null ? null : Math.max(0, is - was) / seconds,
  };
}

function dealt(books: Books): number | null {
  return books.stored === null ? null : books.stored + (books.expired ?? 0);
}

/** The looks to keep: the newest one that is older than the span, and all that are younger. */
export function recentLooks(looks: Look[], newest: Look): Look[] {
  const all = [...looks, newest];
  const first = all.findLastIndex(({ at_ms }) => at_ms <= newest.at_ms - SPAN_MS);
  return all.slice(Math.max(0, first));
}

export type Verdict = "balanced" | "counting" | "wrong";

/** Whether accepted = stored + waiting + refused + expired. */
export function verdictOf(books: Books): Verdict {
  if (books.difference === null) return "counting";
  return books.difference === 0 ? "balanced" : "wrong";
}

const byName = new Intl.Collator("en", { numeric: true }).compare;

/** Those that do not balance first; else by name, so that rows stay where they are while numbers change. */
export function orderOf<T extends Books & { device: string }>(devices: T[]): T[] {
  const isWrong = (books: Books) => Number(verdictOf(books) === "wrong");
  return devices.toSorted((a, b) => isWrong(b) - isWrong(a) || byName(a.device, b.device));
}

/** One question at a time; a hub that does not answer is asked again. */
export class FlowFeed {
  readonly looks: Signal<Look[]> = signal([]);
  /** Why the newest look is not of now. */
  readonly problem: Signal<string | null> = signal(null);
  private timer = 0;
  private open = false;

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
        const flow = await fetchFlow(SHOWN_DEVICES);
        this.looks.value = recentLooks(this.looks.value, { flow, at_ms });
        this.problem.value = null;
      } catch (error) {
        this.problem.value = error instanceof ApiError ? error.message : "The hub does not answer.";
      }
    }
    if (this.open) this.timer = window.setTimeout(() => void this.ask(), PERIOD_MS);
  }
}

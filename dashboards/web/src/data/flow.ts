/** The hub's books, and how fast each way of the data is. */

import type { Books, Flow } from "./api";
import type { Look } from "./looks";

/** Devices that the page shows; the hub sends those that do not balance first. */
export const SHOWN_DEVICES = 100;

/** Readings a second; null where it cannot be told yet. */
export interface Rates {
  accepted: number | null;
  stored: number | null;
}

/** How fast readings came in and were stored between two looks. What a retention deleted was stored all the same. */
export function ratesOf(before: Look<Flow> | undefined, now: Look<Flow>): Rates {
  const seconds = before === undefined ? 0 : (now.at_ms - before.at_ms) / 1000;
  if (before === undefined || seconds <= 0 || before.told.journal.id !== now.told.journal.id)
    return { accepted: null, stored: null };
  const was = dealt(before.told.totals);
  const is = dealt(now.told.totals);
  return {
    accepted: Math.max(0, now.told.totals.accepted - before.told.totals.accepted) / seconds,
    stored: was === null || is === null ? null : Math.max(0, is - was) / seconds,
  };
}

function dealt(books: Books): number | null {
  return books.stored === null ? null : books.stored + (books.expired ?? 0);
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

/** The time range that the charts of a page show, and how gestures change it. */

import { DAY, HOUR, MINUTE, SECOND, type TimeRange } from "../data/time";

/** `live`: the newest `span_ms`, which moves with the clock. `fixed`: a range that stays. */
export type TimeView = { mode: "live"; span_ms: number } | { mode: "fixed"; from: number; to: number };

const MIN_SPAN_MS = SECOND;
const MAX_SPAN_MS = 366 * DAY;
/** A view that ends this close to now, as a fraction of its span, becomes live. */
const STICKY = 0.01;

export const RANGES = [
  { name: "5m", label: "5 min", span_ms: 5 * MINUTE },
  { name: "15m", label: "15 min", span_ms: 15 * MINUTE },
  { name: "1h", label: "1 h", span_ms: HOUR },
  { name: "6h", label: "6 h", span_ms: 6 * HOUR },
  { name: "24h", label: "24 h", span_ms: DAY },
  { name: "7d", label: "7 d", span_ms: 7 * DAY },
] as const;

/** Return the smallest offered range of at least this span. */
export function rangeOfAtLeast(span_ms: number): (typeof RANGES)[number] | undefined {
  return RANGES.find((range) => range.span_ms >= span_ms * 0.999);
}

export const DEFAULT_SPAN_MS = RANGES[0].span_ms;

export function timeRangeOf(view: TimeView, now: number): TimeRange {
  return view.mode === "live" ? { from: now - view.span_ms, to: now } : { from: view.from, to: view.to };
}

export function spanOf(view: TimeView): number {
  return view.mode === "live" ? view.span_ms : view.to - view.from;
}

/** Move the view by a fraction of its span; negative moves back. It never moves beyond now. */
export function pan(view: TimeView, now: number, part: number): TimeView {
  const { from, to } = timeRangeOf(view, now);
  const span = to - from;
  const end = to + part * span;
  if (end >= now - span * STICKY && part > 0) return { mode: "live", span_ms: span };
  if (end >= now) return view;
  return { mode: "fixed", from: end - span, to: end };
}

/** Multiply the span by `factor`. The time at `anchor` (0: left, 1: right) stays in place. */
export function zoom(view: TimeView, now: number, factor: number, anchor: number): TimeView {
  const { from, to } = timeRangeOf(view, now);
  const span = Math.min(MAX_SPAN_MS, Math.max(MIN_SPAN_MS, (to - from) * factor));
  const fixedPoint = from + anchor * (to - from);
  const start = fixedPoint - anchor * span;
  const end = start + span;
  // At the live edge the newest reading stays in place, not the pointer.
  if (view.mode === "live" && anchor > 0.95) return { mode: "live", span_ms: span };
  if (end >= now - span * STICKY) return { mode: "live", span_ms: view.mode === "live" ? span : now - start };
  return { mode: "fixed", from: start, to: end };
}

/** Return the view as query parameters of the page's address. */
export function toQuery(view: TimeView): string {
  if (view.mode === "fixed") return `from=${Math.round(view.from)}&to=${Math.round(view.to)}`;
  const named = RANGES.find((range) => range.span_ms === view.span_ms);
  return `range=${named?.name ?? `${Math.round(view.span_ms / 1000)}s`}`;
}

/** Return the view of an address; null if it has none. */
export function fromQuery(search: string): TimeView | null {
  const query = new URLSearchParams(search);
  const from = Number(query.get("from") ?? Number.NaN);
  const to = Number(query.get("to") ?? Number.NaN);
  if (to - from >= MIN_SPAN_MS && to - from <= MAX_SPAN_MS) return { mode: "fixed", from, to };
  const name = query.get("range");
  const named = RANGES.find((range) => range.name === name);
  if (named !== undefined) return { mode: "live", span_ms: named.span_ms };
  const seconds = /^(\d{1,8})s$/.exec(name ?? "")?.[1];
  if (seconds === undefined) return null;
  const span_ms = Math.min(MAX_SPAN_MS, Math.max(MIN_SPAN_MS, Number(seconds) * 1000));
  return { mode: "live", span_ms };
}

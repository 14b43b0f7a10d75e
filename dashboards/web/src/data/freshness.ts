/** Stale metrics of a device, and the usual intervals of metrics, as texts. */

import type { DeviceMetric } from "../wire/api";
import type { DeviceState } from "../wire/live";
import { ago, shortDuration } from "./time";

/** Freshness of a metric whose details the hub has not sent yet. */
export const UNKNOWN_FRESHNESS: DeviceMetric["freshness"] = {
  reporting: "learning",
  interval_ns: null,
  stale_after_ns: null,
  stale: false,
};

/** Return whether a metric is stale: nothing of it arrived for several of its usual intervals. */
export function isStale(state: DeviceState, metric: string): boolean {
  return (state.stale ?? []).includes(metric);
}

/** Return the age of a stale value as a text; `last_ms` is the time of its reading, 0 if unknown. */
export function staleText(last_ms: number, now_ms: number): string {
  return last_ms === 0 ? "stale" : ago(now_ms - last_ms);
}

/** Return how a metric reports: its usual interval, or that it reports on change; empty while it is learned. */
export function reportingText({ freshness }: Pick<DeviceMetric, "freshness">): string {
  const { reporting, interval_ns } = freshness;
  if (reporting === "on_change") return "on change";
  return interval_ns === null ? "" : `every ${shortDuration(interval_ns / 1e6)}`;
}

/** Change of a metric: what to send to the hub, and what the hub did. */

import type { MetricChangeRequest, RetriedBatches } from "../wire/api";
import type { MetricDetails } from "./metrics";
import { plural } from "./number_format";

export interface EditedMetric {
  name: string;
  type: MetricDetails["type"];
  unit: string;
  description: string;
}

/** Return the request for what differs; null if nothing does. A unit that is not changed stays that of the device. */
export function changeOf(metric: MetricDetails, edited: EditedMetric): MetricChangeRequest | null {
  const name = edited.name.trim();
  const change = {
    ...(name !== metric.metric && { name }),
    ...(edited.type !== metric.type && { type: edited.type }),
    ...(edited.unit !== metric.unit && { unit: edited.unit }),
    ...(edited.description !== metric.description && { description: edited.description }),
  };
  return Object.keys(change).length === 0 ? null : { metric: metric.metric, ...change };
}

/** Return what became of the messages in quarantine. */
export function retriedText({ accepted, readings, reasons, next }: RetriedBatches): string {
  const parts = [`${plural(accepted, "message")} with ${plural(readings, "reading")} left the quarantine.`];
  for (const [code, count] of Object.entries(reasons))
    parts.push(`${plural(count, "message stays", "messages stay")} (${code}).`);
  if (next !== null) parts.push("Retry the others on the page Quarantine.");
  return parts.join(" ");
}

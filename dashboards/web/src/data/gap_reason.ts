/** Why there are no readings: what the events around a gap tell. */

import type { DeviceEvent } from "./api";
import type { Stretch } from "./stretch";
import { duration } from "./time_format";

/** Events this close to a gap's edges belong to it. */
const NEAR_MS = 15_000;

/**
 * A sentence on why a stretch is empty. `hubStarted_ms` is when the hub that answers was started. Events are told apart by their kind
 * alone: their detail may hold an agent's own words.
 */
export function gapReason(
  gap: Stretch,
  events: readonly DeviceEvent[],
  hubStarted_ms: number | null,
): string {
  const length = `No readings for ${duration(gap.to - gap.from)}`;
  const within = events.filter((event) => {
    const time = event.time_ns / 1e6;
    return time >= gap.from - NEAR_MS && time <= gap.to + NEAR_MS;
  });
  const find = (kind: string) => within.find((event) => event.kind === kind);
  const declared = find("gap");
  if (declared !== undefined) return `${length}. The device says: ${declared.detail}`;
  if (hubStarted_ms !== null && hubStarted_ms > gap.from && hubStarted_ms <= gap.to + NEAR_MS)
    return `${length}. The hub was off`;
  const gone = find("disconnected");
  if (gone !== undefined)
    return isHubStop(gone.detail)
      ? `${length}. The hub was off`
      : `${length}. The device was offline (${gone.detail})`;
  if (find("connected") !== undefined) return `${length}. The device was offline`;
  return `${length}. The device sent none`;
}

/** Whether a connection ended because the hub did: cut off, or closed with the code of a restarting service. */
function isHubStop(detail: string): boolean {
  return detail === "the hub stopped" || /^closed with 1012\b/.test(detail);
}

/** Why there are no readings: what the events around a gap tell. */

import type { DeviceEvent } from "./api";
import type { Stretch } from "./stretch";
import { duration } from "./time_format";

/** Events this close to a gap's edges belong to it. */
const NEAR_MS = 15_000;

/** A sentence on why a stretch is empty. `hubStarted_ms` is when the hub that answers was started. */
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
  const declared = within.find((event) => /gap|lost/i.test(event.kind));
  if (declared !== undefined)
    return `${length}. The device says: ${detailText(declared.detail) || "readings lost"}`;
  if (hubStarted_ms !== null && hubStarted_ms > gap.from && hubStarted_ms <= gap.to + NEAR_MS)
    return `${length}. The hub was off`;
  const gone = within.find((event) => /disconnect|offline|closed/i.test(event.kind));
  if (gone !== undefined) {
    const why = detailText(gone.detail);
    return /shut|restart|hub/i.test(why)
      ? `${length}. The hub was off`
      : `${length}. The device was offline${why === "" ? "" : ` (${why})`}`;
  }
  if (within.some((event) => /connect/i.test(event.kind))) return `${length}. The device was offline`;
  return `${length}. The device sent none`;
}

/** An event's detail as text, whatever the hub put there. */
export function detailText(detail: unknown): string {
  if (detail === null || detail === undefined) return "";
  if (typeof detail === "string") return detail;
  if (typeof detail !== "object") return String(detail);
  return Object.entries(detail)
    .map(([key, value]) => `${key.replaceAll("_", " ")} ${String(value)}`)
    .join(", ");
}

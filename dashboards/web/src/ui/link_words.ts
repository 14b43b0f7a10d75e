/** What is said of the connection to the hub. Times are those of `performance.now()`. */

import type { Status } from "../connection/live_connection";

/** Shorter breaks do not deserve a banner. */
export const BANNER_AFTER_MS = 2500;

export function linkWords(status: Status, now: number): string {
  switch (status.state) {
    case "live":
      return "Live";
    case "waiting": {
      const seconds = Math.ceil((status.retryAt - now) / 1000);
      return seconds > 0 ? `Reconnecting in ${seconds} s` : "Reconnecting";
    }
    case "connecting":
      return "Connecting";
    case "signed_out":
      return "Signed out";
  }
}

/** For how long the page has been without its hub; null when there is nothing to tell in a banner. */
export function offlineFor(status: Status, now: number): number | null {
  if (status.state === "live" || status.state === "signed_out") return null;
  const offline_ms = now - status.since;
  return offline_ms < BANNER_AFTER_MS ? null : offline_ms;
}

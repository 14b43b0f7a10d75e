/** How the page is connected to the hub: quiet in the header while all is well, a banner when it is not. */

import type { Status } from "../connection/live_connection";
import { hub } from "../data/hub";
import { hubNow } from "../data/hub_clock";
import { moment } from "../data/time_format";
import { Icon } from "./icon";
import { now, pageNow } from "./tick";

/** Shorter breaks do not deserve a banner. */
const BANNER_AFTER_MS = 2500;

function secondsUntil(time: number): number {
  return Math.max(0, Math.ceil((time - pageNow.value) / 1000));
}

function words(status: Status): string {
  switch (status.state) {
    case "live":
      return "Live";
    case "waiting": {
      const seconds = secondsUntil(status.retryAt);
      return seconds > 0 ? `Reconnecting in ${seconds} s` : "Reconnecting";
    }
    case "connecting":
      return "Connecting";
    case "signed_out":
      return "Signed out";
  }
}

export function LinkState() {
  const status = hub.connection.status.value;
  return (
    <span
      class={`link-state ${status.state}`}
      role="status"
      data-testid="link-state"
      data-state={status.state}
    >
      <svg class="shape" viewBox="0 0 10 10" aria-hidden="true">
        {status.state === "live" ? (
          <circle cx="5" cy="5" r="4" fill="currentColor" />
        ) : (
          <circle
            cx="5"
            cy="5"
            r="3.6"
            fill="none"
            stroke="currentColor"
            stroke-width="1.8"
            stroke-dasharray="3 2"
          />
        )}
      </svg>
      {words(status)}
    </span>
  );
}

export function LinkBanner() {
  const status = hub.connection.status.value;
  if (status.state === "live" || status.state === "signed_out") return null;
  const offline_ms = pageNow.value - status.since;
  if (offline_ms < BANNER_AFTER_MS) return null;
  const since = hubNow() - offline_ms;
  return (
    <div class="banner" role="alert" data-testid="link-banner">
      <Icon name="warning" />
      <span>
        <strong>Offline since {moment(since, now.value)}.</strong> What you see was received before. Devices
        keep their readings; everything missed comes when the hub is back.
      </span>
      <button type="button" class="button" onClick={() => hub.connection.retry()}>
        Try now
      </button>
    </div>
  );
}

/** How the page is connected to the hub: quiet in the header while all is well, a banner when it is not. */

import { hub } from "../data/hub";
import { hubNow } from "../data/hub_clock";
import { moment } from "../data/time_format";
import { Icon } from "./icon";
import { linkWords, offlineFor } from "./link_words";
import { now, pageNow } from "./tick";

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
      {linkWords(status, pageNow.value)}
    </span>
  );
}

export function LinkBanner() {
  const offline_ms = offlineFor(hub.connection.status.value, pageNow.value);
  if (offline_ms === null) return null;
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

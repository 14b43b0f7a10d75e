/** Time for the interface: counts seconds, while somebody looks. */

import { signal } from "@preact/signals";
import { hubNow } from "../data/hub_clock";

/** The hub's time in milliseconds, once a second. */
export const now = signal(hubNow());
/** `performance.now()`, once a second, for what is counted by the page's own clock. */
export const pageNow = signal(performance.now());

export function startTicking(): void {
  const tick = () => {
    if (document.visibilityState === "hidden") return;
    now.value = hubNow();
    pageNow.value = performance.now();
  };
  setInterval(tick, 1000);
  document.addEventListener("visibilitychange", tick);
}

/** Texts for the state of the live connection and for problems of the hub. Times are those of `performance.now()`. */

import type { Cause } from "../connection/diagnosis";
import type { ConnectionStatus } from "../connection/live_connection";

/** Shorter interruptions show no banner. */
export const BANNER_AFTER_MS = 2500;

export function connectionText(status: ConnectionStatus, now: number): string {
  switch (status.state) {
    case "live":
      return "Connected";
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

/** Return for how long the page has been offline; null when no banner is needed. */
export function offlineDuration(status: ConnectionStatus, now: number): number | null {
  if (status.state === "live" || status.state === "signed_out") return null;
  const offline_ms = now - status.since;
  return offline_ms < BANNER_AFTER_MS ? null : offline_ms;
}

/** Return the reason and the remedy as sentences. */
export function causeText({ reason, remedy }: Cause): string {
  return [reason, remedy]
    .filter((text) => text !== "")
    .map(asSentence)
    .join(" ");
}

/** Return when the page lost the connection, on the clock that shows `clock_ms` now; null while it is connected. */
export function lostAt(status: ConnectionStatus, now: number, clock_ms: number): number | null {
  return status.state === "waiting" || status.state === "connecting" ? clock_ms - (now - status.since) : null;
}

/** A part of the hub that cannot work. */
interface Problem {
  part: string;
  title: string;
  /** The hub's own sentence, which says what to do. */
  detail: string;
  /** Effect of the problem on the data. */
  meaning: string;
}

const TEXTS: Record<string, { title: string; meaning: string }> = {
  journal: {
    title: "The hub does not accept data.",
    meaning: "Devices keep their readings and send them after the problem is solved.",
  },
  store: {
    title: "The hub does not store data.",
    meaning: "The hub continues to accept readings: they wait in the journal and are shown live.",
  },
};

/** Return a text for each problem, the most serious first. */
export function describeProblems(problems: Record<string, string>): Problem[] {
  return Object.keys(problems)
    .sort()
    .map((part) => ({
      part,
      detail: asSentence(problems[part]),
      ...(TEXTS[part] ?? { title: "A part of the hub does not work.", meaning: "" }),
    }));
}

/** Return one text for what the journal has lost or repaired, with the newest incident; none without incidents. */
export function describeDamage(incidents: string[]): Problem[] {
  const newest = incidents.at(-1);
  if (newest === undefined) return [];
  const more = incidents.length - 1;
  return [
    {
      part: "damage",
      title: "The hub found damage on its disk.",
      detail: asSentence(newest),
      meaning: `${more > 0 ? `${more} more: see` : "See"} the events on the page Flow. This text disappears at the next start of the hub.`,
    },
  ];
}

export function capitalise(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Return a text as a sentence: with a capital letter and a full stop. */
export function asSentence(text: string): string {
  return `${capitalise(text)}${/[.!?]$/.test(text) ? "" : "."}`;
}

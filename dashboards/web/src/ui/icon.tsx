/** Icons and status shapes, drawn on a 16 px grid. */

import type { Condition } from "../data/fleet";

const PATHS = {
  fleet: "M2.5 4h11M2.5 8h11M2.5 12h11M5 2.8v2.4M10 6.8v2.4M7 10.8v2.4",
  flow: "M2 8h3M11 8h3M5 5.5h6v5H5zM12 6l2 2-2 2",
  send: "M2.5 3.2 13.8 8 2.5 12.8 4.3 8 2.5 3.2ZM4.3 8h4.2",
  search: "M7 12a5 5 0 1 0 0-10 5 5 0 0 0 0 10ZM10.7 10.7 14 14",
  system: "M2 3h12v8H2zM6 14h4M8 11v3",
  light:
    "M8 11a3 3 0 1 0 0-6 3 3 0 0 0 0 6ZM8 1.5v1M8 13.5v1M1.5 8h1M13.5 8h1M3.4 3.4l.7.7M11.9 11.9l.7.7M12.6 3.4l-.7.7M4.1 11.9l-.7.7",
  dark: "M13.5 9.6A5.8 5.8 0 0 1 6.4 2.5a5.8 5.8 0 1 0 7.1 7.1Z",
  leave: "M6.5 2.5h-4v11h4M10 11l3.5-3L10 5M13 8H6",
  copy: "M5.5 5.5v-3h8v8h-3M2.5 5.5h8v8h-8z",
  done: "m3 8.5 3.2 3.2L13 5",
  back: "M9.5 3.5 5 8l4.5 4.5",
  up: "M8 12.5v-9M4.5 7 8 3.5 11.5 7",
  down: "M8 3.5v9M4.5 9 8 12.5 11.5 9",
  table: "M2.5 3h11v10h-11zM2.5 6.5h11M2.5 9.8h11M6.5 6.5V13",
  download: "M8 2.5v7.5M5 7.5l3 3 3-3M2.5 13.5h11",
  warning: "M8 2 1.8 13.2h12.4L8 2ZM8 6.5v3.2M8 11.4v.1",
  follow: "M2 8h7M9 4.5 12.5 8 9 11.5M14 3.5v9",
  quarantine: "M8 1.8 13 3.6v4.2c0 3-2 5.2-5 6.4-3-1.2-5-3.4-5-6.4V3.6L8 1.8ZM8 5.2v3.2M8 10.4v.1",
  broker:
    "M8 9.5a1.5 1.5 0 1 0 0-3 1.5 1.5 0 0 0 0 3ZM4.8 4.8a4.5 4.5 0 0 0 0 6.4M11.2 4.8a4.5 4.5 0 0 1 0 6.4M2.7 2.7a7.5 7.5 0 0 0 0 10.6M13.3 2.7a7.5 7.5 0 0 1 0 10.6",
  opened: "m4 6 4 4 4-4",
  closed: "m6 4 4 4-4 4",
  retry: "M13 8a5 5 0 1 1-1.6-3.7M13 2.5v3h-3",
  remove: "M3 4.5h10M6.5 4.5v-2h3v2M4.5 4.5l.6 9h5.8l.6-9",
  close: "m4 4 8 8M12 4l-8 8",
  board: "M4.5 4.5h7v7h-7zM6.5 2v2.5M9.5 2v2.5M6.5 11.5V14M9.5 11.5V14M2 6.5h2.5M2 9.5h2.5M11.5 6.5H14M11.5 9.5H14",
  key: "M5.5 13a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7ZM8 7l5.5-5.5M10.5 4.5l2.5 2.5",
  add: "M8 3v10M3 8h10",
  more: "M2.5 4.5h11M2.5 8h11M2.5 11.5h11",
  edit: "M10.5 3 13 5.5 6 12.5l-3 .5.5-3L10.5 3ZM9 4.5 11.5 7",
  range: "M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12ZM8 4.8V8l2.2 1.4",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 16 16" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}

/** The logo: a pulse on a line. */
export function Logo() {
  return (
    <svg class="logo" viewBox="0 0 24 24" fill="none" aria-hidden="true">
      <rect x="1" y="1" width="22" height="22" rx="6" fill="currentColor" />
      <path
        d="M4.5 12.5h3.2l2.1-6 3.6 11 2.3-7.2 1.1 2.2h2.7"
        stroke="var(--on-accent)"
        stroke-width="1.8"
        stroke-linecap="round"
        stroke-linejoin="round"
      />
    </svg>
  );
}

export const CONDITION_TEXTS: Record<Condition, string> = {
  online: "Online",
  reconnecting: "Reconnecting",
  silent: "Silent",
  offline: "Offline",
  unconnected: "No agent",
};

/** Shape of a connection that is being established. */
export function DashedCircle() {
  return (
    <svg class="shape" viewBox="0 0 10 10" aria-hidden="true">
      <circle cx="5" cy="5" r="3.6" fill="none" stroke="currentColor" stroke-width="1.8" stroke-dasharray="3 2" />
    </svg>
  );
}

/**
 * Shape of a condition: full for online, half for silent, dashed while the device reconnects, a cross for offline, empty
 * for a device without an agent.
 */
export function Shape({ condition }: { condition: Condition }) {
  if (condition === "reconnecting") return <DashedCircle />;
  return (
    <svg class={`shape ${condition}`} viewBox="0 0 10 10" aria-hidden="true">
      {condition === "online" && <circle cx="5" cy="5" r="4" fill="currentColor" />}
      {condition === "silent" && (
        <>
          <circle cx="5" cy="5" r="4" fill="none" stroke="currentColor" stroke-width="1.6" />
          <path d="M5 1a4 4 0 0 1 0 8z" fill="currentColor" />
        </>
      )}
      {condition === "unconnected" && (
        <circle cx="5" cy="5" r="4" fill="none" stroke="currentColor" stroke-width="1.6" />
      )}
      {condition === "offline" && (
        <path d="M2 2l6 6M8 2 2 8" stroke="currentColor" stroke-width="2.2" stroke-linecap="round" />
      )}
    </svg>
  );
}

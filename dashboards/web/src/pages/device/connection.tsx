/** Connection timeline of a device: its states in the last day as a bar, and the newest of them as a list. */

import { count } from "../../data/number_format";
import { DAY, dateTime, duration, now } from "../../data/time";
import { CONDITION_TEXTS } from "../../ui/icon";
import type { PresenceInterval } from "../../wire/api";

/** Intervals in the list. The bar has all of the last day. */
const LISTED = 8;

/** Narrower parts cannot be seen. */
const MIN_SHARE = 0.004;

const TEXTS: Record<PresenceInterval["state"], string> = {
  ...CONDITION_TEXTS,
  connected: CONDITION_TEXTS.online,
  retired: "Retired",
  unknown: "Hub off",
};

export function Connection({ intervals }: { intervals: PresenceInterval[] }) {
  if (intervals.length === 0) return null;
  const to_ms = now.value;
  const from_ms = to_ms - DAY;
  return (
    <section class="panel box" data-testid="connection">
      <h2>Connection</h2>
      <div class="presence-bar" role="img" aria-label="States in the last 24 hours">
        {barOf(intervals, from_ms, to_ms).map(({ state, left, share }) => (
          <span
            key={`${state} ${left}`}
            class={state}
            style={{ left: `${left * 100}%`, width: `${Math.max(share, MIN_SHARE) * 100}%` }}
          />
        ))}
      </div>
      <p class="presence-scale muted">
        <span>24 h ago</span>
        <span>now</span>
      </p>
      <ol class="presence-list" tabIndex={0} aria-label="States of the connection">
        {intervals.slice(0, LISTED).map((interval) => (
          <li key={`${interval.state} ${interval.from_ns}`}>
            <span class="row">
              <span class={`presence-mark ${interval.state}`} aria-hidden="true" />
              {TEXTS[interval.state]}
            </span>
            <span class="muted">
              {dateTime(interval.from_ns / 1e6, to_ms)}, for{" "}
              {duration((interval.to_ns === null ? to_ms : interval.to_ns / 1e6) - interval.from_ns / 1e6)}
            </span>
            {interval.reason !== "" && <span class="detail muted">{interval.reason}</span>}
          </li>
        ))}
        {intervals.length > LISTED && <li class="muted">and {count(intervals.length - LISTED)} before</li>}
      </ol>
    </section>
  );
}

interface BarPart {
  state: PresenceInterval["state"];
  left: number;
  share: number;
}

/** Return the parts of the bar for these intervals, as shares of the range. */
export function barOf(intervals: PresenceInterval[], from_ms: number, to_ms: number): BarPart[] {
  const span_ms = to_ms - from_ms;
  return intervals.flatMap(({ state, from_ns, to_ns }) => {
    const begin = Math.max(from_ms, from_ns / 1e6);
    const end = Math.min(to_ms, to_ns === null ? to_ms : to_ns / 1e6);
    return end <= begin ? [] : [{ state, left: (begin - from_ms) / span_ms, share: (end - begin) / span_ms }];
  });
}

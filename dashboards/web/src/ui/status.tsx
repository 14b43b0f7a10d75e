/** State of the connection and of the hub: the indicator in the header, and banners while something is wrong. */

import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { Condition } from "../data/fleet";
import { hub } from "../data/hub";
import { Poller, type Sample } from "../data/poller";
import { dateTime, hubNow, now, pageNow } from "../data/time";
import { CONDITION_TEXTS, DashedCircle, Icon, Shape } from "./icon";
import { causeText, connectionText, describeDamage, describeProblems, offlineDuration } from "./status_text";

const POLL_PERIOD_MS = 1000;

export function ConnectionIndicator() {
  const status = hub.connection.status.value;
  return (
    <span
      class={`link-state note row ${status.state}`}
      role="status"
      data-testid="link-state"
      data-state={status.state}
    >
      {status.state === "live" ? <Shape condition="online" /> : <DashedCircle />}
      {connectionText(status, pageNow.value)}
    </span>
  );
}

/** Condition of a device. Nobody knows it while the page has no live updates. */
export function ConditionLabel({ condition }: { condition: Condition }) {
  const isKnown = offlineDuration(hub.connection.status.value, pageNow.value) === null;
  return (
    <span class={`condition ${isKnown ? condition : "unknown"}`} data-testid="condition">
      {isKnown ? <Shape condition={condition} /> : <DashedCircle />}
      {isKnown ? CONDITION_TEXTS[condition] : "Unknown"}
    </span>
  );
}

export function OfflineBanner() {
  const offline_ms = offlineDuration(hub.connection.status.value, pageNow.value);
  if (offline_ms === null) return null;
  const cause = hub.connection.cause.value;
  return (
    <div class="banner row" role="alert" data-testid="link-banner">
      <Icon name="warning" />
      <span class="trouble">
        <strong>
          {cause === null ? "Offline" : "No live updates"} since {dateTime(hubNow() - offline_ms, now.value)}.
        </strong>{" "}
        {cause !== null && <span data-testid="link-cause">{causeText(cause)}</span>} This page shows the data received
        before. Devices keep their readings; missed readings appear after the connection is restored.
      </span>
      <button type="button" class="button" onClick={() => hub.connection.retry()}>
        Reconnect now
      </button>
    </div>
  );
}

/**
 * Problems of the hub, and what its journal has lost or repaired since the start, on every page. Nothing while the page
 * is offline: the offline banner is shown then.
 */
export function ProblemBanner() {
  if (hub.connection.status.value.state !== "live") return null;
  const problems = describeProblems(hub.info.value?.problems ?? {});
  const damage = describeDamage(hub.info.value?.damage ?? []);
  return [...problems, ...damage].map(({ part, title, detail, meaning }) => (
    <div key={part} class="banner row critical" role="alert" data-testid="trouble">
      <Icon name="warning" />
      <span class="trouble">
        <strong>{title}</strong> {detail} {meaning}
      </span>
    </div>
  ));
}

interface PolledPageProps<T> {
  title: string;
  fetch: () => Promise<T>;
  /** Return the content. `earlier` is an earlier answer, to compute rates; undefined while there is only one. */
  children: (latest: Sample<T>, earlier: Sample<T> | undefined) => ComponentChildren;
}

/** A page that polls a resource of the hub. After a failure it keeps the last answer and explains the failure. */
export function PolledPage<T>({ title, fetch, children }: PolledPageProps<T>) {
  const [poller] = useState(() => new Poller(fetch, POLL_PERIOD_MS));
  useEffect(() => poller.start(), [poller]);
  const samples = poller.samples.value;
  const problem = poller.problem.value;
  const latest = samples.at(-1);
  return (
    <>
      <h1 class="hidden-text">{title}</h1>
      {problem !== null && (
        <p class="flow-problem row" role="status">
          <Icon name="warning" />
          {problem} The numbers are from the last answer. This page retries automatically.
        </p>
      )}
      {latest === undefined ? (
        <div aria-busy={problem === null} />
      ) : (
        children(latest, samples.length > 1 ? samples[0] : undefined)
      )}
    </>
  );
}

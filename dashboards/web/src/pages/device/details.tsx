/** Details of a device: header, events, tags and retirement. */

import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { retireDevice } from "../../data/api";
import { conditionOf, type DeviceRecord, failedSources, hasConnected, lastReading, lastSeen } from "../../data/fleet";
import { hub } from "../../data/hub";
import { count, plural } from "../../data/number_format";
import { ago, clockOffset, dateTime, duration, now, pageNow, shortDuration } from "../../data/time";
import { Confirmation, useAction } from "../../ui/controls";
import { Icon } from "../../ui/icon";
import { ConditionLabel } from "../../ui/status";
import { capitalise, lostAt } from "../../ui/status_text";
import type { EventDetails } from "../../wire/api";
import { withBase } from "../../wire/base_path";
import type { DeviceState, SourceState } from "../../wire/live";

/** A larger clock offset is shown as a warning. */
const CLOCK_WARN_NS = 1e9;
/** Tags in the header; the tag list contains all of them. */
const TAGS = 4;

export function DeviceHead({ record }: { record: DeviceRecord }) {
  const state = record.state.value;
  const tags = Object.entries(state.tags ?? {});
  const seen_ms = lastSeen(record);
  return (
    <>
      <div class="device-head bar">
        <h1 class="mono" data-testid="device-name">
          {record.device}
        </h1>
        <ConditionLabel condition={conditionOf(record)} />
        {state.retired && <span class="tag">retired</span>}
        <div class="device-tags">
          {tags.slice(0, TAGS).map(([key, value]) => (
            <span class="tag" key={key}>
              <span class="ellipsis">
                {key}
                <b>{value}</b>
              </span>
            </span>
          ))}
        </div>
      </div>
      <SourceFaults sources={failedSources(state)} />
      <dl class="facts box">
        <Fact name={linkName(state)}>
          <Since record={record} />
        </Fact>
        <Fact name="Last reading">
          <span data-testid="last-reading">
            {lastReading(record) === 0
              ? record.metrics.value?.length
                ? "unknown"
                : "never"
              : ago(now.value - lastReading(record))}
          </span>
          {seen_ms !== null && <small> last seen {ago(now.value - seen_ms)}</small>}
        </Fact>
        <Fact name="Clock offset">
          <ClockOffset offset_ns={state.clock_offset_ns ?? null} error_ns={state.clock_error_ns ?? null} />
        </Fact>
        <Fact name="Agent">{state.agent || "–"}</Fact>
        <Fact name="Acknowledged up to">
          <span data-testid="acked">{count(state.acked ?? 0)}</span>
        </Fact>
        <Fact name="Backlog">
          {(state.backlog ?? 0) > 0 ? (
            <span class="warn" data-testid="backlog">
              {plural(state.backlog ?? 0, "batch", "batches")}
            </span>
          ) : (
            <span class="muted" data-testid="backlog">
              none
            </span>
          )}
        </Fact>
      </dl>
    </>
  );
}

function linkName(state: DeviceState): string {
  if (state.connected) return "Connected for";
  if (!hasConnected(state)) return "Connected";
  return state.presence === "reconnecting" ? "Reconnecting since" : "Offline since";
}

function Fact({ name, children }: { name: string; children: ComponentChildren }) {
  return (
    <div class="fact">
      <dt class="label">{name}</dt>
      <dd class="ellipsis">{children}</dd>
    </div>
  );
}

function Since({ record }: { record: DeviceRecord }) {
  const { connected, since } = record.state.value;
  if (!hasConnected(record.state.value)) return <>never</>;
  const since_ms = (since ?? 0) / 1e6;
  if (since_ms === 0) return <>{connected ? "just now" : "never seen"}</>;
  if (connected) {
    // While the page is offline it does not know whether the device is still connected.
    const lost_ms = lostAt(hub.connection.status.value, pageNow.value, now.value);
    if (lost_ms === null) return <span data-testid="connected-for">{duration(now.value - since_ms)}</span>;
    return (
      <>
        <span data-testid="connected-for">{duration(lost_ms - since_ms)}</span>{" "}
        <small>known until {dateTime(lost_ms, now.value)}</small>
      </>
    );
  }
  return (
    <>
      {dateTime(since_ms, now.value)} <small>for {duration(now.value - since_ms)}</small>
    </>
  );
}

function ClockOffset({ offset_ns, error_ns }: { offset_ns: number | null; error_ns: number | null }) {
  if (offset_ns === null) return <>–</>;
  const wrong = Math.abs(offset_ns) > CLOCK_WARN_NS;
  return (
    <>
      <span class={wrong ? "warn" : ""}>{clockOffset(offset_ns)}</span>
      {error_ns !== null && <small> ± {shortDuration(error_ns / 1e6)}</small>}
    </>
  );
}

/** Notice of the sources that do not work; nothing while all work. */
function SourceFaults({ sources }: { sources: SourceState[] }) {
  return sources.map(({ name, since, error }) => (
    <p key={name} class="source-fault banner row" role="status" data-testid="source-fault">
      <Icon name="warning" />
      <span>
        <strong>
          The source <span class="mono">{name}</span> has failed
        </strong>{" "}
        since {dateTime(since / 1e6, now.value)}: {error}
      </span>
    </p>
  ));
}

export function Sources({ state }: { state: DeviceState }) {
  const { sources = [], source_refused: refused = 0 } = state;
  if (sources.length === 0 && refused === 0) return null;
  return (
    <section class="panel box" data-testid="sources">
      <h2>Sources</h2>
      <ul class="sources">
        {sources.map(({ name, ok, since, error }) => (
          <li key={name} class={ok ? "" : "failed"}>
            <span class="row">
              {ok ? <Icon name="done" /> : <Icon name="warning" />}
              <span class="mono">{name}</span>
            </span>
            <span class="muted">
              {ok ? "Works" : "Failed"} since {dateTime(since / 1e6, now.value)}
            </span>
            {!ok && <span class="detail">{error}</span>}
          </li>
        ))}
        {refused > 0 && (
          <li data-testid="source-refused">
            <span>
              {plural(refused, "line or value", "lines or values")} refused before sending. Examples are in{" "}
              <a class="link" href={withBase("/quarantine")}>
                quarantine
              </a>
              .
            </span>
          </li>
        )}
      </ul>
    </section>
  );
}

export function Events({ title = "Recent events", events }: { title?: string; events: EventDetails[] }) {
  return (
    <section class="panel box" data-testid="events">
      <h2>{title}</h2>
      {events.length === 0 ? (
        <p class="empty-note note">No events yet.</p>
      ) : (
        <ol class="events" tabIndex={0} aria-label={title}>
          {events.map((event, index) => (
            <li class="event" key={`${event.time_ns} ${index}`}>
              <time class="muted" dateTime={new Date(event.time_ns / 1e6).toISOString()}>
                {dateTime(event.time_ns / 1e6, now.value)}
              </time>
              <span>{capitalise(event.kind.replaceAll("_", " "))}</span>
              <span class="detail muted">{event.detail}</span>
            </li>
          ))}
        </ol>
      )}
    </section>
  );
}

export function Tags({ tags }: { tags: Record<string, string> }) {
  const entries = Object.entries(tags);
  return (
    <section class="panel box" data-testid="tags">
      <h2>Tags</h2>
      {entries.length === 0 ? (
        <p class="empty-note note">This device has no tags. The agent sends tags when it connects.</p>
      ) : (
        <dl class="tag-list">
          {entries.map(([key, value]) => [
            <dt class="muted" key={`${key}-name`}>
              {key}
            </dt>,
            <dd class="mono" key={`${key}-value`}>
              {value}
            </dd>,
          ])}
        </dl>
      )}
    </section>
  );
}

export function Retirement({ record }: { record: DeviceRecord }) {
  const [asking, setAsking] = useState(false);
  const { device } = record;
  const { problem, run } = useAction(() => retireDevice(device));
  const { connected, retired } = record.state.value;
  if (retired)
    return (
      <p class="retirement note row" data-testid="retired">
        This device is retired. Its history is kept, and it returns to the fleet with its next reading.
      </p>
    );
  if (!hub.canOperate) return null;
  return (
    <p class="retirement note row">
      <button type="button" class="button" data-testid="retire" onClick={() => setAsking(true)}>
        Retire this device…
      </button>
      {problem !== null && <span class="problem">The device was not retired. {problem}</span>}
      {asking && (
        <Confirmation
          request={{
            text: `Retire ${device}?`,
            hint: `The hub removes it from the fleet and from Home Assistant. Its history is kept. ${
              connected ? "It is connected: it returns" : "It returns"
            } with its next reading.`,
            action: "Retire",
            onConfirm: () => void run(),
          }}
          close={() => setAsking(false)}
        />
      )}
    </p>
  );
}

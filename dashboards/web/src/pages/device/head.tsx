/** Who the device is and how it stands with the hub. */

import type { JSX } from "preact";
import { conditionOf, type DeviceRecord } from "../../data/fleet";
import { count } from "../../data/number_format";
import { age, duration, moment, offset, precise } from "../../data/time_format";
import { ConditionMark } from "../../ui/condition";
import { now } from "../../ui/tick";

/** A clock that is further off than this deserves attention. */
const CLOCK_WARN_NS = 1e9;
/** Tags in the head; all of them stand further down. */
const TAGS = 4;

export function DeviceHead({ record }: { record: DeviceRecord }) {
  const state = record.state.value;
  const tags = Object.entries(state.tags ?? {});
  return (
    <>
      <div class="device-head">
        <h1 class="mono" data-testid="device-name">
          {record.device}
        </h1>
        <ConditionMark condition={conditionOf(record, now.value)} />
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
      <dl class="facts">
        <Fact name={state.connected ? "Connected for" : "Offline since"}>
          <Since record={record} />
        </Fact>
        <Fact name="Last reading">{record.heard === 0 ? "never" : ago(now.value - record.heard)}</Fact>
        <Fact name="Clock offset">
          <ClockOffset offset_ns={state.clock_offset_ns ?? null} error_ns={state.clock_error_ns ?? null} />
        </Fact>
        <Fact name="Agent">{state.agent || "–"}</Fact>
        <Fact name="Acknowledged up to">
          <span data-testid="acked">{count(state.acked ?? 0)}</span>
        </Fact>
        <Fact name="Backlog">
          {(state.backlog ?? 0) > 0 ? (
            <span class="warn">{count(state.backlog ?? 0)} batches</span>
          ) : (
            <span class="muted">none</span>
          )}
        </Fact>
      </dl>
    </>
  );
}

function ago(span_ms: number): string {
  const text = age(span_ms);
  return text === "now" ? "just now" : `${text} ago`;
}

function Fact({
  name,
  children,
}: {
  name: string;
  children: JSX.Element | string | (JSX.Element | string)[];
}) {
  return (
    <div class="fact">
      <dt>{name}</dt>
      <dd class="ellipsis">{children}</dd>
    </div>
  );
}

function Since({ record }: { record: DeviceRecord }) {
  const { connected, since } = record.state.value;
  const since_ms = (since ?? 0) / 1e6;
  if (since_ms === 0) return <>{connected ? "just now" : "never seen"}</>;
  if (connected) return <>{duration(now.value - since_ms)}</>;
  return (
    <>
      {moment(since_ms, now.value)} <small>for {duration(now.value - since_ms)}</small>
    </>
  );
}

function ClockOffset({ offset_ns, error_ns }: { offset_ns: number | null; error_ns: number | null }) {
  if (offset_ns === null) return <>–</>;
  const wrong = Math.abs(offset_ns) > CLOCK_WARN_NS;
  return (
    <>
      <span class={wrong ? "warn" : ""}>{offset(offset_ns)}</span>
      {error_ns !== null && <small> ± {precise(error_ns / 1e6)}</small>}
    </>
  );
}

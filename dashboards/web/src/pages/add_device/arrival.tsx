/** The state of a device that is being connected: its first reading, or why there is none. */

import type { ComponentChildren } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import { describeRefusal, fetchNewestQuarantined, fetchRefusals, refusedSince } from "../../data/arrival";
import { lastReading } from "../../data/fleet";
import { hub } from "../../data/hub";
import type { MetricDetails } from "../../data/metrics";
import { FormatCache, latestReading } from "../../data/number_format";
import { Poller } from "../../data/poller";
import { age, hubNow, now } from "../../data/time";
import { WithCode } from "../../ui/controls";
import { DashedCircle, Icon, Shape } from "../../ui/icon";
import { devicePath } from "../../ui/route";
import { asSentence } from "../../ui/status_text";
import type { QuarantinedBatch, RefusedClient } from "../../wire/api";
import { withBase } from "../../wire/base_path";

const PERIOD_MS = 2000;
/** Refusals that are shown; a stranger can cause any number of them. */
const MAX_SHOWN = 3;
const METRICS_SHOWN = 3;
const FORMATS = new FormatCache();

interface Seen {
  refusals: RefusedClient[];
  quarantined: QuarantinedBatch | null;
}

/** Ask the hub for refusals and for the quarantine of the device. Refusals are for those who can do something. */
async function fetchSeen(device: string): Promise<Seen> {
  const [refusals, page] = await Promise.all([
    hub.canOperate ? fetchRefusals() : [],
    fetchNewestQuarantined(device),
    // The live connection announces a device before it has metrics, and not each of its readings.
    hub.fleet.records.has(device) ? hub.fleet.fetch(device) : undefined,
  ]);
  return { refusals, quarantined: page.quarantine[0] ?? null };
}

/** The state of the device, live values once it sends, and everything that the hub has refused since the page is open. */
export function Arrival({ device }: { device: string }) {
  const [opened_ms] = useState(hubNow);
  const [before, setBefore] = useState<RefusedClient[] | null>(null);
  const poller = useMemo(() => new Poller(() => fetchSeen(device), PERIOD_MS), [device]);
  useEffect(() => poller.start(), [poller]);
  const seen = poller.samples.value.at(-1)?.value;
  useEffect(() => {
    if (seen !== undefined) setBefore((known) => known ?? seen.refusals);
  }, [seen]);
  void hub.fleet.version.value;
  const record = hub.fleet.records.get(device);
  const metrics = record?.metrics.value?.filter(({ latest }) => latest !== null) ?? [];
  const arrived = record !== undefined && metrics.length > 0 && lastReading(record) >= opened_ms;
  const entry = seen?.quarantined ?? null;
  return (
    <section
      class="arrival"
      aria-label="What the hub sees"
      aria-busy={before === null}
      data-testid="arrival"
      tabIndex={0} // it may be scrolled
    >
      <div class="arrival-state row" role="status">
        {arrived ? (
          <>
            <span class="condition online">
              <Shape condition="online" />
            </span>
            <p>
              <strong>{device} is live.</strong>{" "}
              <a class="link" href={devicePath(device)}>
                Show the device
              </a>
            </p>
          </>
        ) : (
          <>
            <span class="condition unknown">
              <DashedCircle />
            </span>
            <p>
              {record?.state.value.connected
                ? `${device} is connected. Waiting for its first reading.`
                : `Waiting for the first reading. The hub has no connection of ${device} yet.`}
            </p>
          </>
        )}
      </div>
      {arrived && <Values metrics={metrics} last_ms={lastReading(record)} />}
      {before !== null && <Refusals refusals={refusedSince(before, seen?.refusals ?? [])} />}
      {entry !== null && entry.received_ns / 1e6 >= opened_ms && <RefusedValues entry={entry} />}
    </section>
  );
}

function Values({ metrics, last_ms }: { metrics: MetricDetails[]; last_ms: number }) {
  return (
    <dl class="arrival-values">
      {metrics.slice(0, METRICS_SHOWN).map((metric) => {
        const { text, unit } = latestReading(metric, undefined, FORMATS);
        return (
          <div key={metric.metric}>
            <dt class="label ellipsis">{metric.metric}</dt>
            <dd class="big ellipsis">
              {text}
              <span class="unit">{unit}</span>
            </dd>
          </div>
        );
      })}
      <div>
        <dt class="label">last reading</dt>
        <dd class="big">{age(now.value - last_ms)}</dd>
      </div>
    </dl>
  );
}

function Refusals({ refusals }: { refusals: RefusedClient[] }) {
  return (
    <>
      {refusals.slice(0, MAX_SHOWN).map((client) => (
        <Problem key={`${client.code} ${client.peer} ${client.path}`} what={describeRefusal(client)}>
          <WithCode text={asSentence(client.remedy)} />
        </Problem>
      ))}
    </>
  );
}

function RefusedValues({ entry }: { entry: QuarantinedBatch }) {
  return (
    <Problem what={`The hub refused what ${entry.device} sent: ${entry.message}`}>
      It is kept in{" "}
      <a class="link" href={withBase("/quarantine")}>
        Quarantine
      </a>
      .{" "}
      <a class="link" href={withBase(`/try?entry=${entry.offset}`)}>
        Try it
      </a>{" "}
      shows how it is read.
    </Problem>
  );
}

function Problem({ what, children }: { what: string; children: ComponentChildren }) {
  return (
    <div class="arrival-problem" data-testid="arrival-problem">
      <Icon name="warning" />
      <p>
        <strong>{asSentence(what)}</strong> {children}
      </p>
    </div>
  );
}

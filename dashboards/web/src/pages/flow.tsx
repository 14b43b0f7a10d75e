/** Flow page: where every reading is, the rate of each step, and whether the accounting balances. */

import { type ComponentChildren, Fragment } from "preact";
import { useEffect, useState } from "preact/hooks";
import { fetchFlow, fetchHubEvents } from "../data/api";
import { hub } from "../data/hub";
import { count, formatFor, formatValue, plural } from "../data/number_format";
import { balanceStatus, type FlowRates, flowRates, SHOWN_DEVICES, sortDevices } from "../data/rates";
import { Icon } from "../ui/icon";
import { devicePath } from "../ui/route";
import { PolledPage } from "../ui/status";
import type { ConsumerDetails, EventDetails, FlowCounts, FlowDetails } from "../wire/api";
import { Events } from "./device/details";

const EVENTS = 50;

const STORE_PHASES: Record<FlowDetails["store"]["phase"], string> = {
  opening: "Opening",
  running: "Running",
  waiting: "Unavailable",
};

export function FlowPage() {
  return (
    <PolledPage title="Flow" fetch={() => fetchFlow(SHOWN_DEVICES)}>
      {(latest, earlier) => (
        <>
          <DataPath flow={latest.value} rates={flowRates(earlier, latest)} />
          <AccountingEquation totals={latest.value.totals} />
          <DeviceTable flow={latest.value} />
          <HubEvents />
        </>
      )}
    </PolledPage>
  );
}

/** The events of the hub itself. They are rare, so each visit and each new connection loads them once. */
function HubEvents() {
  const [events, setEvents] = useState<EventDetails[] | null>(null);
  const isLive = hub.connection.status.value.state === "live";
  useEffect(() => {
    // Without the events the page is complete in everything else.
    if (isLive) fetchHubEvents(EVENTS).then(setEvents, () => undefined);
  }, [isLive]);
  return events === null ? null : <Events title="Events of the hub" events={events} />;
}

function DataPath({ flow, rates }: { flow: FlowDetails; rates: FlowRates }) {
  const { totals, journal } = flow;
  return (
    <section class="flow" aria-label="Path of the data" data-testid="flow">
      <DevicesNode flow={flow} />
      <Arrow rate={rates.accepted} label="From devices to the journal">
        <ArrowFact name="accepted" value={totals.accepted} />
        {totals.duplicate_batches > 0 && (
          <ArrowFact
            name={totals.duplicate_batches === 1 ? "duplicate batch" : "duplicate batches"}
            value={totals.duplicate_batches}
          />
        )}
      </Arrow>
      <Node title="Journal" detail={`Offset ${count(journal.last_offset)}`}>
        {bytes(journal.size_bytes)} on disk
      </Node>
      <div class="flow-sinks">
        {flow.consumers.map((consumer) => (
          <Sink key={consumer.name} flow={flow} consumer={consumer} rates={rates} />
        ))}
        <DashboardsNode />
      </div>
    </section>
  );
}

function DevicesNode({ flow }: { flow: FlowDetails }) {
  void hub.fleet.version.value;
  const states = [...hub.fleet.records.values()].map((record) => record.state.value);
  const connected = states.filter((state) => state.connected).length;
  const backlog = states.reduce((sum, state) => sum + (state.backlog ?? 0), 0);
  const { quarantined, quarantined_batches } = flow.totals;
  return (
    <Node title="Devices" detail={`${count(connected)} of ${count(states.length)} connected`}>
      {backlog > 0 ? `Backlog: ${plural(backlog, "batch", "batches")}` : "No backlog"}
      {quarantined_batches > 0 && (
        <span class="flow-aside">
          {quarantined > 0 ? plural(quarantined, "reading") : plural(quarantined_batches, "batch", "batches")} in
          quarantine
        </span>
      )}
      {flow.totals.repaired_batches > 0 && (
        <span class="flow-aside">{plural(flow.totals.repaired_batches, "batch", "batches")} repaired</span>
      )}
      {flow.totals.source_refused > 0 && (
        <span class="flow-aside">
          {plural(flow.totals.source_refused, "line or value", "lines or values")} refused by sources
        </span>
      )}
    </Node>
  );
}

interface SinkProps {
  flow: FlowDetails;
  consumer: ConsumerDetails;
  rates: FlowRates;
}

/** The store or a broker, and the arrow that leads to it. */
function Sink({ flow, consumer, rates }: SinkProps) {
  if (consumer.name !== "store") {
    const name = consumer.name.replace(/^mqtt:/, "Broker ");
    return (
      <div class="flow-sink">
        <Arrow label={`From the journal to: ${name}`}>
          <Lag lag={consumer.lag} />
        </Arrow>
        <Node title={name} detail="" />
      </div>
    );
  }
  const { phase, error } = flow.store;
  const wrong = error !== null;
  return (
    <div class="flow-sink">
      <Arrow
        rate={rates.stored}
        label="From the journal to: Store"
        wrong={wrong || balanceStatus(flow.totals) === "wrong"}
      >
        <ArrowFact name="stored" value={consumer.stored} />
        <ArrowFact name="waiting" value={consumer.waiting} />
        <Lag lag={consumer.lag} />
      </Arrow>
      <Node title="Store" detail={STORE_PHASES[phase]} wrong={wrong} testId="flow-store">
        {error}
      </Node>
    </div>
  );
}

function Lag({ lag }: { lag: number }) {
  return <ArrowFact name={lag === 1 ? "batch behind" : "batches behind"} value={lag} />;
}

function DashboardsNode() {
  const connected = hub.connection.status.value.state === "live";
  return (
    <div class="flow-sink">
      <Arrow label="From the journal to the dashboards" wrong={!connected}>
        <span class="flow-fact">after each commit</span>
      </Arrow>
      <Node
        title="Dashboards"
        detail={connected ? "This page is connected" : "This page is offline"}
        wrong={!connected}
      />
    </div>
  );
}

interface NodeProps {
  title: string;
  detail: string;
  wrong?: boolean;
  testId?: string;
  children?: ComponentChildren;
}

function Node({ title, detail, wrong = false, testId, children }: NodeProps) {
  return (
    <div class={`flow-node box ${wrong ? "wrong" : ""}`} data-testid={testId}>
      <h2>{title}</h2>
      <p class="flow-detail row">
        {wrong && <Icon name="warning" />}
        {detail}
      </p>
      {children != null && <p class="flow-more label">{children}</p>}
    </div>
  );
}

interface ArrowProps {
  /** Undefined for a step without its own rate. */
  rate?: number | null;
  label: string;
  wrong?: boolean;
  children: ComponentChildren;
}

function Arrow({ rate, label, wrong = false, children }: ArrowProps) {
  return (
    <div class={`flow-arrow ${wrong ? "wrong" : ""}`}>
      <span class="hidden-text">{label}: </span>
      {rate !== undefined && (
        <span class="flow-rate">
          <span class="number">{count(rate)}</span>
          <span class="unit">readings/s</span>
        </span>
      )}
      <span class="flow-line" aria-hidden="true" />
      <span class="flow-facts">{children}</span>
    </div>
  );
}

function ArrowFact({ name, value }: { name: string; value: number | null }) {
  return (
    <span class="flow-fact">
      <span class="number">{count(value)}</span> {name}
    </span>
  );
}

const TERMS = [
  ["stored", "Stored", "In the store"],
  ["waiting", "Waiting", "In the journal, not yet in the store"],
  ["refused", "Refused", "In quarantine: the store does not take them"],
  ["expired", "Expired", "Deleted by retention"],
] as const;

/** The term of readings that the disk of the journal lost. It is shown if there are any. */
const DAMAGED = ["damaged", "Damaged", "Lost on the disk of the journal before they were stored"] as const;

function terms(totals: FlowCounts) {
  return totals.damaged > 0 ? [...TERMS, DAMAGED] : TERMS;
}

/** The accounting equation with its numbers. */
function AccountingEquation({ totals }: { totals: FlowCounts }) {
  const status = balanceStatus(totals);
  const icons = { balanced: "done", counting: "range", wrong: "warning" } as const;
  return (
    <section class="flow-sum bar box" aria-label="Accounting" data-testid="flow-sum">
      <Term name="Accepted" value={totals.accepted} title="Acknowledged and committed to the journal" />
      {terms(totals).map(([key, name, title], index) => (
        <Fragment key={key}>
          <span class="flow-sign" aria-hidden="true">
            {index > 0 ? "+" : status === "wrong" ? "≠" : "="}
          </span>
          <Term name={name} value={totals[key]} title={title} />
        </Fragment>
      ))}
      <p class={`flow-verdict row ${status}`} data-testid="flow-verdict">
        <Icon name={icons[status]} />
        {status === "balanced" && "Balanced: every accepted reading is accounted for"}
        {status === "counting" && "The number of waiting readings is not known yet"}
        {status === "wrong" && (
          <span>
            The numbers differ by {plural(totals.difference ?? 0, "reading")}. Run <code>hub audit DEVICE</code> to find
            the cause
          </span>
        )}
      </p>
    </section>
  );
}

function Term({ name, value, title }: { name: string; value: number | null; title: string }) {
  return (
    <div class="flow-term" title={title}>
      <span class="label">{name}</span>
      <span class="flow-term-value">{count(value)}</span>
    </div>
  );
}

function DeviceTable({ flow }: { flow: FlowDetails }) {
  const more = Math.max(0, hub.fleet.records.size - flow.devices.length);
  if (flow.devices.length === 0) return null;
  const columns = [
    ["accepted", "Accepted"],
    ...terms(flow.totals),
    ["difference", "Difference"],
    ...(flow.totals.quarantined > 0 ? ([["quarantined", "Quarantined"]] as const) : []),
  ] as const;
  return (
    // biome-ignore lint/a11y/useSemanticElements: it scrolls sideways on a phone, and by keyboard as well
    <div class="flow-table box" role="region" aria-label="Devices" tabIndex={0}>
      <table>
        <thead>
          <tr>
            <th scope="col">Device</th>
            {columns.map(([key, name]) => (
              <th key={key} scope="col" class="number">
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {sortDevices(flow.devices).map((row) => (
            <tr key={row.device} class={balanceStatus(row)}>
              <th scope="row">
                <a class="mono ellipsis" href={devicePath(row.device)} title={row.device}>
                  {row.device}
                </a>
              </th>
              {columns.map(([key]) => (
                <td key={key} class={`number ${key === "difference" && balanceStatus(row) === "wrong" ? "off" : ""}`}>
                  {count(row[key])}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
      {more > 0 && <p class="muted">{plural(more, "more device")} with fewer waiting readings.</p>}
    </div>
  );
}

function bytes(size_bytes: number): string {
  const format = formatFor([size_bytes], "B");
  return `${formatValue(size_bytes, format)} ${format.unit}`;
}

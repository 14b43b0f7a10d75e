/** Flow page: where every reading is, the rate of each step, and whether the accounting balances. */

import { type ComponentChildren, Fragment } from "preact";
import { type Balance, type Books, type Flow, fetchFlow } from "../data/api";
import { hub } from "../data/hub";
import { count, fixed, formatFor, formatValue } from "../data/number_format";
import { balanceStatus, type FlowRates, flowRates, SHOWN_DEVICES, sortDevices } from "../data/rates";
import { Icon } from "../ui/icon";
import { devicePath } from "../ui/route";
import { StaleNotice, usePoller } from "../ui/status";

/** Return the display name of a journal consumer. */
const sinkName = (consumer: string) =>
  consumer === "store" ? "Store" : consumer.replace(/^mqtt:/, "Broker ");
const PHASES: Record<Flow["store"]["phase"], string> = {
  opening: "Opening",
  running: "Running",
  waiting: "Not available",
};

export function FlowPage() {
  const { latest, earlier, problem } = usePoller(() => fetchFlow(SHOWN_DEVICES));
  return (
    <>
      <h1 class="hidden-text">Flow</h1>
      <StaleNotice problem={problem} />
      {latest === undefined ? (
        <div class="flow" aria-busy={problem === null} />
      ) : (
        <>
          <Way flow={latest.value} rates={flowRates(earlier, latest)} />
          <Sum books={latest.value.totals} />
          <Devices flow={latest.value} />
        </>
      )}
    </>
  );
}

function Way({ flow, rates }: { flow: Flow; rates: FlowRates }) {
  const { totals, journal } = flow;
  const wrong = balanceStatus(totals) === "wrong";
  return (
    <section class="flow" aria-label="The way of the data" data-testid="flow">
      <DevicesNode flow={flow} />
      <Arrow rate={rates.accepted} label="From devices to the journal">
        <Fact name="accepted" value={totals.accepted} />
        {totals.duplicate_batches > 0 && (
          <Fact name="came again" value={totals.duplicate_batches} unit="batches" />
        )}
      </Arrow>
      <Node title="Journal" detail={`Offset ${count(journal.last_offset)}`}>
        {bytes(journal.size_bytes)} on disk
      </Node>
      <div class="flow-sinks">
        {flow.consumers.map((consumer) => (
          <Sink key={consumer.name} flow={flow} consumer={consumer} rates={rates} wrong={wrong} />
        ))}
        <Dashboards />
      </div>
    </section>
  );
}

function DevicesNode({ flow }: { flow: Flow }) {
  void hub.fleet.version.value;
  const states = [...hub.fleet.records.values()].map((record) => record.state.value);
  const connected = states.filter((state) => state.connected).length;
  const backlog = states.reduce((sum, state) => sum + (state.backlog ?? 0), 0);
  return (
    <Node title="Devices" detail={`${count(connected)} of ${count(states.length)} connected`}>
      {backlog > 0 ? `${count(backlog)} batches on the way` : "Nothing held back"}
      {flow.totals.quarantined_batches > 0 && (
        <span class="flow-aside">{count(flow.totals.quarantined_batches)} batches to quarantine</span>
      )}
    </Node>
  );
}

interface SinkProps {
  flow: Flow;
  consumer: Balance & { name: string; lag: number };
  rates: FlowRates;
  wrong: boolean;
}

function Sink({ flow, consumer, rates, wrong }: SinkProps) {
  const isStore = consumer.name === "store";
  const { phase, error } = flow.store;
  const down = isStore && error !== null;
  const name = sinkName(consumer.name);
  return (
    <div class="flow-sink">
      <Arrow
        rate={isStore ? rates.stored : null}
        label={`From the journal to: ${name}`}
        wrong={down || (isStore && wrong)}
      >
        {isStore && <Fact name="stored" value={consumer.stored} />}
        {isStore && <Fact name="waiting" value={consumer.waiting} />}
        <Fact name="behind" value={consumer.lag} unit="batches" />
      </Arrow>
      <Node
        title={name}
        detail={isStore ? PHASES[phase] : ""}
        wrong={down}
        testId={isStore ? "flow-store" : undefined}
      >
        {down ? error : null}
      </Node>
    </div>
  );
}

function Dashboards() {
  const live = hub.connection.status.value.state === "live";
  return (
    <div class="flow-sink">
      <Arrow rate={undefined} label="From the journal to the dashboards" wrong={!live}>
        <span class="flow-fact">fed after each commit</span>
      </Arrow>
      <Node
        title="Dashboards"
        detail={live ? "This page is live" : "This page is not connected"}
        wrong={!live}
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
    <div class={`flow-node ${wrong ? "wrong" : ""}`} data-testid={testId}>
      <h2>{title}</h2>
      <p class="flow-detail">
        {wrong && <Icon name="warning" />}
        {detail}
      </p>
      {children !== null && children !== undefined && <p class="flow-more">{children}</p>}
    </div>
  );
}

interface ArrowProps {
  /** Undefined for a step without its own rate. */
  rate: number | null | undefined;
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
          <span class="number">{rate === null ? "–" : fixed(rate, 0)}</span>
          <span class="unit">readings/s</span>
        </span>
      )}
      <span class="flow-line" aria-hidden="true" />
      <span class="flow-facts">{children}</span>
    </div>
  );
}

function Fact({ name, value, unit = "" }: { name: string; value: number | null; unit?: string }) {
  return (
    <span class="flow-fact">
      <span class="number">{value === null ? "–" : count(value)}</span> {unit} {name}
    </span>
  );
}

const TERMS = [
  ["stored", "Stored", "In the store now"],
  ["waiting", "Waiting", "In the journal, for the store"],
  ["refused", "Refused", "In quarantine: the store will never take them"],
  ["expired", "Expired", "Deleted when they were old enough"],
] as const;

/** The accounting equation with its numbers. */
function Sum({ books }: { books: Books }) {
  const verdict = balanceStatus(books);
  return (
    <section class="flow-sum" aria-label="The books" data-testid="flow-sum">
      <Term name="Accepted" value={books.accepted} title="Acknowledged: on the hub's disk" />
      {TERMS.map(([key, name, title], place) => (
        <Fragment key={key}>
          <span class="flow-sign" aria-hidden="true">
            {place > 0 ? "+" : verdict === "wrong" ? "≠" : "="}
          </span>
          <Term name={name} value={books[key]} title={title} />
        </Fragment>
      ))}
      <p class={`flow-verdict ${verdict}`} data-testid="flow-verdict">
        <Icon name={verdict === "wrong" ? "warning" : verdict === "counting" ? "range" : "done"} />
        {verdict === "balanced" && "Balanced: every accepted reading is in one place"}
        {verdict === "counting" && "What waits for the store is not known yet"}
        {verdict === "wrong" && (
          <span>
            Off by {count(books.difference ?? 0)} readings: <code>hub audit DEVICE</code> says where
          </span>
        )}
      </p>
    </section>
  );
}

function Term({ name, value, title }: { name: string; value: number | null; title: string }) {
  return (
    <div class="flow-term" title={title}>
      <span class="flow-term-name">{name}</span>
      <span class="flow-term-value">{value === null ? "–" : count(value)}</span>
    </div>
  );
}

const COLUMNS = ["accepted", "stored", "waiting", "refused", "expired", "difference"] as const;

function Devices({ flow }: { flow: Flow }) {
  const all = hub.fleet.records.size;
  const more = Math.max(0, all - flow.devices.length);
  if (flow.devices.length === 0) return null;
  return (
    // biome-ignore lint/a11y/useSemanticElements: it scrolls sideways on a phone, and by keyboard as well
    <div class="flow-table" role="region" aria-label="Devices" tabIndex={0}>
      <table>
        <thead>
          <tr>
            <th scope="col">Device</th>
            {COLUMNS.map((name) => (
              <th key={name} scope="col" class="number">
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
              {COLUMNS.map((name) => (
                <td
                  key={name}
                  class={`number ${name === "difference" && balanceStatus(row) === "wrong" ? "off" : ""}`}
                >
                  {row[name] === null ? "–" : count(row[name])}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
      {more > 0 && <p class="muted">{count(more)} more devices with less waiting.</p>}
    </div>
  );
}

function bytes(size_bytes: number): string {
  const format = formatFor([size_bytes], "B");
  return `${formatValue(size_bytes, format)} ${format.unit}`;
}

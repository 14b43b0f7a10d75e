/** The bridges to MQTT brokers: how each is connected, what comes in and goes out, and what is the matter. */

import type { ComponentChildren } from "preact";
import { type Bridge, fetchBridges } from "../../data/api";
import { type BridgeRates, consequenceOf, protocolOf, ratesOf } from "../../data/bridges";
import { count, fixed } from "../../data/number_format";
import { duration } from "../../data/time_format";
import { Shape } from "../../ui/condition";
import { Icon } from "../../ui/icon";
import { StaleNote, useLooks } from "../../ui/looks";
import { EmptyMqtt } from "./empty";

export function MqttPage() {
  const { look, before, problem } = useLooks(fetchBridges);
  return (
    <>
      <h1 class="hidden-text">MQTT</h1>
      <StaleNote problem={problem} />
      {look === undefined ? (
        <div class="bridges" aria-busy={problem === null} />
      ) : look.told.bridges.length === 0 ? (
        <EmptyMqtt />
      ) : (
        <div class="bridges">
          {look.told.bridges.map((bridge) => (
            <BridgeCard
              key={bridge.name}
              bridge={bridge}
              rates={ratesOf(bridge.name, before, look)}
              since_ms={(look.told.time_ns - bridge.since_ns) / 1e6}
            />
          ))}
        </div>
      )}
    </>
  );
}

function BridgeCard({ bridge, rates, since_ms }: { bridge: Bridge; rates: BridgeRates; since_ms: number }) {
  const { inward, outward } = bridge;
  return (
    <section class="bridge" aria-label={`Broker ${bridge.name}`} data-testid={`bridge-${bridge.name}`}>
      <header class="bridge-head">
        <div class="bridge-name">
          <h2 class="ellipsis" title={bridge.name}>
            {bridge.name}
          </h2>
          <p class="mono ellipsis" title={bridge.address}>
            {bridge.address}
          </p>
        </div>
        <Phase bridge={bridge} since_ms={since_ms} />
      </header>
      {bridge.last_error !== null && (
        <div class="bridge-problem" role="status">
          <Icon name="warning" />
          <p>
            <b>{bridge.last_error}</b> {bridge.phase !== "connected" && consequenceOf(bridge)}
          </p>
        </div>
      )}
      <div class="bridge-ways">
        {inward !== null && (
          <Way title="In" bridge={bridge.name} rate={rates.received}>
            <Fact name="Readings" value={rates.accepted} unit="/s" />
            <Fact name="Readings accepted" value={inward.accepted} />
            <Fact name="Messages received" value={inward.received} />
            <Fact name="Came again" value={inward.duplicates} unit="readings" hint="Stored already" />
            <Fact name="Copies" value={inward.copies} hint="By another subscription of the same topic" />
            <Fact name="Older than the subscription" value={inward.retained} hint="Retained values" />
            <Fact
              name="Of this hub's own"
              value={inward.own}
              hint="Dropped, so that nothing runs in a circle"
            />
            <Fact
              name={<a href="/quarantine">In quarantine</a>}
              value={inward.undecodable}
              wrong={inward.undecodable > 0}
            />
            {Object.entries(bridge.sparkplug ?? {}).map(([reason, times]) => (
              <Fact key={reason} name={`Sparkplug: ${reason.replaceAll("_", " ")}`} value={times} />
            ))}
          </Way>
        )}
        {outward !== null && (
          <Way title="Out" bridge={bridge.name} rate={rates.acknowledged}>
            <Fact
              name="Behind"
              value={outward.lag}
              unit="batches"
              wrong={outward.lag > 0 && isAway(bridge)}
            />
            <Fact name="Messages acknowledged" value={outward.acknowledged} />
            <Fact name="Messages published" value={outward.published} />
            <Fact name="In flight" value={outward.in_flight} />
            <Fact name="Not for this broker" value={outward.passed_over} unit="batches" />
            {outward.too_large > 0 && (
              <Fact name="Too large for the broker" value={outward.too_large} wrong />
            )}
            {outward.refused > 0 && <Fact name="Refused by the broker" value={outward.refused} wrong />}
            {outward.missed > 0 && (
              <Fact name="Deleted before they went out" value={outward.missed} unit="batches" wrong />
            )}
          </Way>
        )}
        {inward === null && outward === null && (
          <p class="bridge-idle">
            Nothing is subscribed to and nothing published: the settings of this broker name no{" "}
            <code>subscribe</code>, <code>presets</code> or <code>publish</code>.
          </p>
        )}
      </div>
    </section>
  );
}

const isAway = (bridge: Bridge) => bridge.phase !== "connected";

const PHASES = { connecting: "Connecting", connected: "Connected", waiting: "Not connected" } as const;
const SHAPES = { connecting: "silent", connected: "online", waiting: "offline" } as const;

function Phase({ bridge, since_ms }: { bridge: Bridge; since_ms: number }) {
  const shape = SHAPES[bridge.phase];
  return (
    <div class="bridge-phase">
      <span class={`condition ${shape}`} data-testid="bridge-phase">
        <Shape condition={shape} />
        {PHASES[bridge.phase]}
      </span>
      <span class="muted">
        {[protocolOf(bridge), `for ${duration(since_ms)}`].filter(Boolean).join(" · ")}
      </span>
    </div>
  );
}

interface WayProps {
  title: string;
  bridge: string;
  rate: number | null;
  children: ComponentChildren;
}

function Way({ title, bridge, rate, children }: WayProps) {
  return (
    <section class="bridge-way" aria-label={`${title}: ${bridge}`}>
      <h3>
        {title}
        <span class="bridge-rate">
          <span class="number">{rate === null ? "–" : fixed(rate, 0)}</span>
          <span class="unit">messages/s</span>
        </span>
      </h3>
      <dl>{children}</dl>
    </section>
  );
}

interface FactProps {
  name: ComponentChildren;
  value: number | null;
  unit?: string;
  hint?: string;
  wrong?: boolean;
}

function Fact({ name, value, unit = "", hint, wrong = false }: FactProps) {
  return (
    <div class={`bridge-fact ${wrong ? "wrong" : ""}`} title={hint}>
      <dt>
        {wrong && <Icon name="warning" />}
        {name}
      </dt>
      <dd class="number">
        {value === null ? "–" : count(value)}
        {unit !== "" && <span class="unit">{unit}</span>}
      </dd>
    </div>
  );
}

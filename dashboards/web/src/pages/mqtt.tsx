/** MQTT page: the connection, traffic and problems of each bridge to a broker. */

import type { ComponentChildren } from "preact";
import { fetchBridges } from "../data/api";
import { count } from "../data/number_format";
import { type BridgeRates, bridgeImpact, bridgeRates, protocolName } from "../data/rates";
import { duration } from "../data/time";
import { CopyableCommand, Step } from "../ui/controls";
import { Icon, Shape } from "../ui/icon";
import { PolledPage } from "../ui/status";
import { asSentence } from "../ui/status_text";
import type { BridgeState } from "../wire/api";
import { withBase } from "../wire/base_path";

export function MqttPage() {
  return (
    <PolledPage title="MQTT" fetch={fetchBridges}>
      {(latest, earlier) =>
        latest.value.bridges.length === 0 ? (
          <EmptyMqtt />
        ) : (
          <div class="bridges">
            {latest.value.bridges.map((bridge) => (
              <BridgeCard
                key={bridge.name}
                bridge={bridge}
                rates={bridgeRates(bridge.name, earlier, latest)}
                since_ms={(latest.value.time_ns - bridge.since_ns) / 1e6}
              />
            ))}
          </div>
        )
      }
    </PolledPage>
  );
}

function BridgeCard({ bridge, rates, since_ms }: { bridge: BridgeState; rates: BridgeRates; since_ms: number }) {
  return (
    <section class="bridge box" aria-label={`Broker ${bridge.name}`} data-testid={`bridge-${bridge.name}`}>
      <header class="bridge-head">
        <div class="bridge-name">
          <h2 class="ellipsis" title={bridge.name}>
            {bridge.name}
          </h2>
          <p class="mono label ellipsis" title={bridge.address}>
            {bridge.address}
          </p>
        </div>
        <Phase bridge={bridge} since_ms={since_ms} />
      </header>
      {bridge.last_error !== null && (
        <div class="bridge-problem" role="status">
          <Icon name="warning" />
          <p>
            <b>{asSentence(bridge.last_error)}</b> {bridge.phase !== "connected" && bridgeImpact(bridge)}
          </p>
        </div>
      )}
      <div class="bridge-directions">
        <Inbound bridge={bridge} rates={rates} />
        <Outbound bridge={bridge} rates={rates} />
        {bridge.inward === null && bridge.outward === null && (
          <p class="bridge-idle note">
            This bridge does nothing. Set <code>subscribe</code>, <code>presets</code> or <code>publish</code> in its
            settings.
          </p>
        )}
      </div>
    </section>
  );
}

function Inbound({ bridge, rates }: { bridge: BridgeState; rates: BridgeRates }) {
  const { inward, sparkplug } = bridge;
  if (inward === null) return null;
  return (
    <Direction title="Inbound" bridge={bridge.name} rate={rates.received}>
      <Counter name="Readings" value={rates.accepted} unit="/s" />
      <Counter name="Readings accepted" value={inward.accepted} />
      <Counter name="Messages received" value={inward.received} />
      <Counter name="Duplicate readings" value={inward.duplicates} hint="Already stored" />
      <Counter name="Copies" value={inward.copies} hint="Received by another subscription of the same topic" />
      <Counter name="Retained values" value={inward.retained} hint="Older than the subscription" />
      <Counter name="Own messages" value={inward.own} hint="Sent by this hub; ignored to prevent loops" />
      <Counter
        name={<a href={withBase("/quarantine")}>Quarantined since the start</a>}
        value={inward.undecodable}
        wrong={inward.undecodable > 0}
      />
      {inward.refused > 0 && (
        <Counter
          name={<a href={withBase("/quarantine")}>Values quarantined since the start</a>}
          value={inward.refused}
          hint="The other values of their messages are stored"
          wrong
        />
      )}
      {Object.entries(sparkplug ?? {}).map(([reason, times]) => (
        <Counter key={reason} name={`Sparkplug: ${reason.replaceAll("_", " ")}`} value={times} />
      ))}
    </Direction>
  );
}

function Outbound({ bridge, rates }: { bridge: BridgeState; rates: BridgeRates }) {
  const { outward, phase } = bridge;
  if (outward === null) return null;
  return (
    <Direction title="Outbound" bridge={bridge.name} rate={rates.acknowledged}>
      <Counter name="Batches behind" value={outward.lag} wrong={outward.lag > 0 && phase !== "connected"} />
      <Counter name="Messages acknowledged" value={outward.acknowledged} />
      <Counter name="Messages published" value={outward.published} />
      <Counter name="In flight" value={outward.in_flight} />
      <Counter name="Batches not for this broker" value={outward.passed_over} />
      {outward.too_large > 0 && <Counter name="Too large for the broker" value={outward.too_large} wrong />}
      {outward.refused > 0 && <Counter name="Rejected by the broker" value={outward.refused} wrong />}
      {outward.missed > 0 && <Counter name="Batches deleted before delivery" value={outward.missed} wrong />}
    </Direction>
  );
}

const PHASES = { connecting: "Connecting", connected: "Connected", waiting: "Reconnecting" } as const;
const SHAPES = { connecting: "silent", connected: "online", waiting: "offline" } as const;

function Phase({ bridge, since_ms }: { bridge: BridgeState; since_ms: number }) {
  const shape = SHAPES[bridge.phase];
  return (
    <div class="bridge-phase">
      <span class={`condition ${shape}`} data-testid="bridge-phase">
        <Shape condition={shape} />
        {PHASES[bridge.phase]}
      </span>
      <span class="muted">{[protocolName(bridge), `for ${duration(since_ms)}`].filter(Boolean).join(" · ")}</span>
    </div>
  );
}

interface DirectionProps {
  title: string;
  bridge: string;
  rate: number | null;
  children: ComponentChildren;
}

function Direction({ title, bridge, rate, children }: DirectionProps) {
  return (
    <section class="bridge-direction" aria-label={`${title}: ${bridge}`}>
      <h3>
        {title}
        <span class="big">
          <span class="number">{count(rate)}</span>
          <span class="unit">messages/s</span>
        </span>
      </h3>
      <dl>{children}</dl>
    </section>
  );
}

interface CounterProps {
  name: ComponentChildren;
  value: number | null;
  unit?: string;
  hint?: string;
  wrong?: boolean;
}

function Counter({ name, value, unit = "", hint, wrong = false }: CounterProps) {
  return (
    <div class={`bridge-fact ${wrong ? "wrong" : ""}`} title={hint}>
      <dt>
        {wrong && <Icon name="warning" />}
        {name}
      </dt>
      <dd class="number">
        {count(value)}
        {unit !== "" && <span class="unit">{unit}</span>}
      </dd>
    </div>
  );
}

const SETTINGS = `[[mqtt]]
url = "mqtt://localhost:1883"
presets = ["zigbee2mqtt"]
subscribe = [{ topic = "sensors/{device}/{metric}", payload = "value" }]
publish = [{ topic = "hub/{device}/{metric}" }]`;

/** Instructions for the first broker. */
function EmptyMqtt() {
  return (
    <section class="guide box" data-testid="empty-mqtt">
      <h1>Join a broker</h1>
      <p>The hub stores readings that devices publish over MQTT, and publishes its own readings to the broker.</p>
      <ol>
        <Step number={1} title="Check the topics">
          <p>The command subscribes for some seconds, explains what it decodes, and stores nothing.</p>
          <CopyableCommand text="hub mqtt check --url mqtt://localhost:1883 --topic '#'" />
        </Step>
        <Step number={2} title="Add the broker to the settings">
          <p>Keep the lines that you need: a preset, inbound topics, outbound topics.</p>
          <CopyableCommand text={SETTINGS} />
        </Step>
        <Step number={3} title="Start the hub with these settings">
          <CopyableCommand text="hub run --config hub.toml" />
        </Step>
      </ol>
    </section>
  );
}

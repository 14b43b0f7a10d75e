/** MQTT page: the connection, traffic and problems of each bridge to a broker. */

import type { ComponentChildren } from "preact";
import { type Bridge, fetchBridges } from "../data/api";
import { count, fixed } from "../data/number_format";
import { type BridgeRates, bridgeImpact, bridgeRates, protocolName } from "../data/rates";
import { duration } from "../data/time";
import { CopyableCommand } from "../ui/controls";
import { Icon, Shape } from "../ui/icon";
import { StaleNotice, usePoller } from "../ui/status";

export function MqttPage() {
  const { latest, earlier, problem } = usePoller(fetchBridges);
  return (
    <>
      <h1 class="hidden-text">MQTT</h1>
      <StaleNotice problem={problem} />
      {latest === undefined ? (
        <div class="bridges" aria-busy={problem === null} />
      ) : latest.value.bridges.length === 0 ? (
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
            <b>{bridge.last_error}</b> {bridge.phase !== "connected" && bridgeImpact(bridge)}
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
              wrong={outward.lag > 0 && isDisconnected(bridge)}
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

const isDisconnected = (bridge: Bridge) => bridge.phase !== "connected";

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
        {[protocolName(bridge), `for ${duration(since_ms)}`].filter(Boolean).join(" · ")}
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

const SETTINGS = `[[mqtt]]
url = "mqtt://localhost:1883"
presets = ["zigbee2mqtt"]
subscribe = [{ topic = "sensors/{device}/{metric}", payload = "value" }]
publish = [{ topic = "hub/{device}/{metric}" }]`;

export function EmptyMqtt() {
  return (
    <section class="teach" data-testid="empty-mqtt">
      <h1>Join a broker</h1>
      <p>
        What devices publish on MQTT becomes readings here, and what this hub has goes out to everyone who
        listens there.
      </p>
      <ol>
        <li>
          <span class="step">1</span>
          <div>
            <h2>See what it would store</h2>
            <p>It listens for some seconds, explains what it finds and stores nothing.</p>
            <CopyableCommand text="hub mqtt check --url mqtt://localhost:1883 --topic '#'" />
          </div>
        </li>
        <li>
          <span class="step">2</span>
          <div>
            <h2>Say it in the settings</h2>
            <p>Keep the lines that you need: a preset, topics that come in, topics that go out.</p>
            <CopyableCommand text={SETTINGS} />
          </div>
        </li>
        <li>
          <span class="step">3</span>
          <div>
            <h2>Start the hub with them</h2>
            <CopyableCommand text="hub run --config hub.toml" />
          </div>
        </li>
      </ol>
    </section>
  );
}

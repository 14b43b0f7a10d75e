/** The bridges to MQTT brokers: what the hub tells of them, and how fast each way is. */

import type { Bridge, Bridges } from "./api";
import type { Look } from "./looks";

/** A second, by the page's own clock; null where it cannot be told yet. */
export interface BridgeRates {
  /** Messages from the broker. */
  received: number | null;
  /** Readings that became durable. */
  accepted: number | null;
  /** Messages that the broker acknowledged. */
  acknowledged: number | null;
}

const UNKNOWN: BridgeRates = { received: null, accepted: null, acknowledged: null };

/** How fast a bridge was between two looks. Counts that went down are those of a hub that was started anew. */
export function ratesOf(name: string, before: Look<Bridges> | undefined, now: Look<Bridges>): BridgeRates {
  const was = before?.told.bridges.find((bridge) => bridge.name === name);
  const is = now.told.bridges.find((bridge) => bridge.name === name);
  const seconds = before === undefined ? 0 : (now.at_ms - before.at_ms) / 1000;
  if (was === undefined || is === undefined || seconds <= 0) return UNKNOWN;
  const rate = (from: number | undefined, to: number | undefined) =>
    from === undefined || to === undefined || to < from ? null : (to - from) / seconds;
  return {
    received: rate(was.inward?.received, is.inward?.received),
    accepted: rate(was.inward?.accepted, is.inward?.accepted),
    acknowledged: rate(was.outward?.acknowledged, is.outward?.acknowledged),
  };
}

/** What a broker that is away means for the data; the hub says why it is away. */
export function consequenceOf(bridge: Bridge): string {
  const parts: string[] = [];
  if (bridge.inward !== null)
    parts.push("What is published at QoS 1 waits in the broker's session for this hub.");
  if (bridge.outward !== null) parts.push("What is to go out waits in the journal.");
  return [...parts, "The hub tries again by itself."].join(" ");
}

/** The protocol in words: MQTT 5, MQTT 3.1.1, or none before the first connection. */
export function protocolOf(bridge: Bridge): string {
  return bridge.version === "" ? "" : `MQTT ${bridge.version}`;
}

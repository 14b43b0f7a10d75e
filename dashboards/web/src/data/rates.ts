/** Rates of the data flow, computed from two answers of the hub, and the status of its accounting. */

import type { BridgeState, BridgesAnswer, FlowCounts, FlowDetails } from "../wire/api";
import { compareNames } from "./fleet";
import type { Sample } from "./poller";

/** Devices on the flow page. The hub sends devices whose accounting does not balance first. */
export const SHOWN_DEVICES = 100;

/** Readings per second; null when unknown. */
export interface FlowRates {
  accepted: number | null;
  stored: number | null;
}

/** Return the rates between two answers. Readings that retention has deleted since were stored as well. */
export function flowRates(earlier: Sample<FlowDetails> | undefined, latest: Sample<FlowDetails>): FlowRates {
  const seconds = secondsBetween(earlier, latest);
  if (earlier === undefined || seconds === null || earlier.value.journal.id !== latest.value.journal.id)
    return { accepted: null, stored: null };
  const [before, now] = [earlier.value.totals, latest.value.totals];
  const [storedBefore, storedNow] = [storedInTotal(before), storedInTotal(now)];
  return {
    accepted: Math.max(0, now.accepted - before.accepted) / seconds,
    stored: storedBefore === null || storedNow === null ? null : Math.max(0, storedNow - storedBefore) / seconds,
  };
}

function secondsBetween(earlier: Sample<unknown> | undefined, latest: Sample<unknown>): number | null {
  const seconds = earlier === undefined ? 0 : (latest.at_ms - earlier.at_ms) / 1000;
  return seconds > 0 ? seconds : null;
}

function storedInTotal(accounting: FlowCounts): number | null {
  return accounting.stored === null ? null : accounting.stored + (accounting.expired ?? 0);
}

type BalanceStatus = "balanced" | "counting" | "wrong";

/** Return whether accepted = stored + waiting + refused + expired + damaged. */
export function balanceStatus({ difference }: { difference: number | null }): BalanceStatus {
  if (difference === null) return "counting";
  return difference === 0 ? "balanced" : "wrong";
}

/** Sort devices that do not balance first, then by name: rows keep their place while the numbers change. */
export function sortDevices<T extends FlowCounts & { device: string }>(devices: T[]): T[] {
  const isWrong = (device: T) => Number(balanceStatus(device) === "wrong");
  return devices.toSorted((a, b) => isWrong(b) - isWrong(a) || compareNames(a.device, b.device));
}

/** Rates of one MQTT bridge per second; null when unknown. */
export interface BridgeRates {
  /** Messages from the broker. */
  received: number | null;
  /** Readings committed to the journal. */
  accepted: number | null;
  /** Messages that the broker acknowledged. */
  acknowledged: number | null;
}

/** Return the rates of a bridge between two answers. A count that decreased belongs to a restarted hub. */
export function bridgeRates(
  name: string,
  earlier: Sample<BridgesAnswer> | undefined,
  latest: Sample<BridgesAnswer>,
): BridgeRates {
  const before = earlier?.value.bridges.find((bridge) => bridge.name === name);
  const now = latest.value.bridges.find((bridge) => bridge.name === name);
  const seconds = secondsBetween(earlier, latest);
  const rate = (from: number | undefined, to: number | undefined) =>
    seconds === null || from === undefined || to === undefined || to < from ? null : (to - from) / seconds;
  return {
    received: rate(before?.inward?.received, now?.inward?.received),
    accepted: rate(before?.inward?.accepted, now?.inward?.accepted),
    acknowledged: rate(before?.outward?.acknowledged, now?.outward?.acknowledged),
  };
}

/** Return what an unavailable broker means for the data. The hub itself reports why it is unavailable. */
export function bridgeImpact(bridge: BridgeState): string {
  const parts: string[] = [];
  if (bridge.inward !== null) parts.push("The broker keeps QoS 1 messages for this hub in its session.");
  if (bridge.outward !== null) parts.push("Outgoing messages wait in the journal.");
  return [...parts, "The hub reconnects automatically."].join(" ");
}

/** Return the protocol version as text: MQTT 5, MQTT 3.1.1, or nothing before the first connection. */
export function protocolName(bridge: BridgeState): string {
  return bridge.version === "" ? "" : `MQTT ${bridge.version}`;
}

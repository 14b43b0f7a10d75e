import { describe, expect, it } from "vitest";
import type { Sample } from "../../src/data/poller";
import { balanceStatus, bridgeImpact, bridgeRates, flowRates, protocolName, sortDevices } from "../../src/data/rates";
import type { BridgeState, BridgesAnswer, FlowCounts, FlowDetails } from "../../src/wire/api";

function books(numbers: Partial<FlowCounts>): FlowCounts {
  return {
    accepted: 0,
    stored: 0,
    waiting: 0,
    refused: 0,
    expired: 0,
    difference: 0,
    accepted_batches: 0,
    duplicate_batches: 0,
    quarantined: 0,
    quarantined_batches: 0,
    lost_batches: 0,
    damaged: 0,
    repaired_batches: 0,
    source_refused: 0,
    moved: 0,
    ...numbers,
  };
}

function flowSample(at_ms: number, numbers: Partial<FlowCounts>, journal = "j"): Sample<FlowDetails> {
  const flow: FlowDetails = {
    journal: { id: journal, first_offset: 1, last_offset: 1, size_bytes: 0 },
    consumers: [],
    store: { phase: "running", since_ns: 0, error: null, missed: 0 },
    totals: books(numbers),
    quarantine_dropped: 0,
    dropped_events: 0,
    bad_messages: 0,
    devices: [],
  };
  return { value: flow, at_ms };
}

describe("flowRates", () => {
  it("counts accepted and stored readings, including those that retention has deleted since", () => {
    const before = flowSample(1000, { accepted: 100, stored: 90, expired: 10 });
    const now = flowSample(3000, { accepted: 500, stored: 60, expired: 240 });
    expect(flowRates(before, now)).toEqual({ accepted: 200, stored: 100 });
  });

  it("are unknown for the first answer, without elapsed time, for another journal and without a store count", () => {
    const unknown = { accepted: null, stored: null };
    expect(flowRates(undefined, flowSample(1, {}))).toEqual(unknown);
    expect(flowRates(flowSample(1, {}), flowSample(1, { accepted: 5 }))).toEqual(unknown);
    expect(flowRates(flowSample(1, {}), flowSample(2, { accepted: 5 }, "other"))).toEqual(unknown);
    expect(flowRates(flowSample(0, {}), flowSample(1000, { accepted: 5, stored: null }))).toEqual({
      accepted: 5,
      stored: null,
    });
  });
});

describe("sortDevices", () => {
  it("sorts devices that do not balance first, the others by name", () => {
    const named = (device: string, difference: number | null, waiting = 0) => ({
      device,
      ...books({ difference, waiting }),
    });
    const devices = [named("pump-10", 0, 9), named("pump-9", null), named("b", -1), named("a", 2)];
    expect(sortDevices(devices).map(({ device }) => device)).toEqual(["a", "b", "pump-9", "pump-10"]);
  });
});

describe("balanceStatus", () => {
  it("is wrong for missing and surplus readings, and counting while a number is unknown", () => {
    expect(balanceStatus(books({ difference: 0 }))).toBe("balanced");
    expect(balanceStatus(books({ difference: 3 }))).toBe("wrong");
    expect(balanceStatus(books({ difference: -3 }))).toBe("wrong");
    expect(balanceStatus(books({ difference: null, waiting: null }))).toBe("counting");
  });
});

const IN = {
  received: 0,
  taken: 0,
  undecodable: 0,
  retained: 0,
  own: 0,
  copies: 0,
  accepted: 0,
  refused: 0,
  duplicates: 0,
};
const OUT = {
  published: 0,
  acknowledged: 0,
  in_flight: 0,
  passed_over: 0,
  offset: 0,
  lag: 0,
  too_large: 0,
  refused: 0,
  missed: 0,
};

function bridge(changed: Partial<BridgeState>): BridgeState {
  return {
    name: "plant",
    address: "mqtt://broker:1883",
    version: "5",
    phase: "connected",
    since_ns: 0,
    last_error: null,
    inward: IN,
    outward: OUT,
    sparkplug: null,
    ...changed,
  };
}

function bridgesSample(at_ms: number, ...bridges: Partial<BridgeState>[]): Sample<BridgesAnswer> {
  return { at_ms, value: { time_ns: 0, bridges: bridges.map(bridge) } };
}

describe("bridgeRates", () => {
  it("counts the messages and readings of the named bridge", () => {
    const before = bridgesSample(1000, { name: "other" }, { inward: { ...IN, received: 10, accepted: 20 } });
    const now = bridgesSample(
      3000,
      { name: "other", inward: { ...IN, received: 999 } },
      { inward: { ...IN, received: 30, accepted: 100 }, outward: { ...OUT, acknowledged: 8 } },
    );
    expect(bridgeRates("plant", before, now)).toEqual({ received: 10, accepted: 40, acknowledged: 4 });
  });

  it("are unknown for the first answer, for an unused direction and after a restart of the hub", () => {
    const unknown = { received: null, accepted: null, acknowledged: null };
    expect(bridgeRates("plant", undefined, bridgesSample(1, {}))).toEqual(unknown);
    expect(bridgeRates("plant", bridgesSample(1, { name: "other" }), bridgesSample(2, {}))).toEqual(unknown);
    expect(bridgeRates("plant", bridgesSample(1, {}), bridgesSample(1, {}))).toEqual(unknown);
    const none = { inward: null, outward: null };
    expect(bridgeRates("plant", bridgesSample(1, none), bridgesSample(2, none))).toEqual(unknown);
    const counted = { inward: { ...IN, received: 5 } };
    expect(bridgeRates("plant", bridgesSample(0, counted), bridgesSample(1000, {})).received).toBeNull();
  });
});

describe("bridgeImpact", () => {
  it("names where messages wait for each configured direction", () => {
    expect(bridgeImpact(bridge({ outward: null }))).not.toContain("journal");
    expect(bridgeImpact(bridge({ inward: null }))).not.toContain("QoS 1");
    expect(bridgeImpact(bridge({}))).toMatch(/QoS 1.*journal.*automatically/);
  });
});

describe("protocolName", () => {
  it("is empty before the first connection", () => {
    expect(protocolName(bridge({ version: "3.1.1" }))).toBe("MQTT 3.1.1");
    expect(protocolName(bridge({ version: "" }))).toBe("");
  });
});

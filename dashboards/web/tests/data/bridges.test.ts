import { describe, expect, it } from "vitest";
import type { Bridge, Bridges } from "../../src/data/api";
import { consequenceOf, protocolOf, ratesOf } from "../../src/data/bridges";
import type { Look } from "../../src/data/looks";

const IN = {
  received: 0,
  taken: 0,
  undecodable: 0,
  retained: 0,
  own: 0,
  copies: 0,
  accepted: 0,
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

function bridge(changed: Partial<Bridge>): Bridge {
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

function look(at_ms: number, ...bridges: Partial<Bridge>[]): Look<Bridges> {
  return { at_ms, told: { time_ns: 0, bridges: bridges.map(bridge) } };
}

describe("ratesOf", () => {
  it("counts what came in and went out in between, of the one bridge", () => {
    const before = look(1000, { name: "other" }, { inward: { ...IN, received: 10, accepted: 20 } });
    const now = look(
      3000,
      { name: "other", inward: { ...IN, received: 999 } },
      { inward: { ...IN, received: 30, accepted: 100 }, outward: { ...OUT, acknowledged: 8 } },
    );
    expect(ratesOf("plant", before, now)).toEqual({ received: 10, accepted: 40, acknowledged: 4 });
  });

  it("tells nothing of the first look, of a way that is not used, and of a hub that was started anew", () => {
    const unknown = { received: null, accepted: null, acknowledged: null };
    expect(ratesOf("plant", undefined, look(1, {}))).toEqual(unknown);
    expect(ratesOf("plant", look(1, { name: "other" }), look(2, {}))).toEqual(unknown);
    expect(ratesOf("plant", look(1, {}), look(1, {}))).toEqual(unknown);
    const none = { inward: null, outward: null };
    expect(ratesOf("plant", look(1, none), look(2, none))).toEqual(unknown);
    const counted = { inward: { ...IN, received: 5 } };
    expect(ratesOf("plant", look(0, counted), look(1000, {})).received).toBeNull();
  });
});

describe("consequenceOf", () => {
  it("says where what comes in and what goes out waits, for the ways that there are", () => {
    expect(consequenceOf(bridge({ outward: null }))).not.toContain("journal");
    expect(consequenceOf(bridge({ inward: null }))).not.toContain("QoS 1");
    expect(consequenceOf(bridge({}))).toMatch(/QoS 1.*journal.*by itself/);
  });
});

describe("protocolOf", () => {
  it("is empty before the first connection", () => {
    expect(protocolOf(bridge({ version: "3.1.1" }))).toBe("MQTT 3.1.1");
    expect(protocolOf(bridge({ version: "" }))).toBe("");
  });
});

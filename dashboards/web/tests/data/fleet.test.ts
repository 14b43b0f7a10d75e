import { expect, test, vi } from "vitest";
import {
  conditionOf,
  FleetStore,
  failedSources,
  filterOf,
  lastReading,
  lastSeen,
  queryWith,
} from "../../src/data/fleet";

test("a retired device leaves the fleet, remains known, and returns when it connects", () => {
  const fleet = new FleetStore();
  fleet.receiveFleet([
    { device: "pump-7", connected: true },
    { device: "pump-8", connected: false },
  ]);
  const record = fleet.get("pump-8");
  fleet.receiveDevices([{ device: "pump-8", connected: false, retired: true }]);
  expect([...fleet.records.keys()]).toEqual(["pump-7"]);
  expect(fleet.get("pump-8")).toBe(record);
  expect(record?.state.value.retired).toBe(true);
  fleet.receiveDevices([{ device: "pump-8", connected: true }]);
  expect([...fleet.records.keys()]).toEqual(["pump-7", "pump-8"]);
  expect(fleet.get("pump-8")).toBe(record);
});

test("progress changes the numbers of a device and nothing else", () => {
  const fleet = new FleetStore();
  const before = { device: "pump-7", connected: true, since: 5, acked: 1, backlog: 1955, tags: { site: "north" } };
  fleet.receiveFleet([before, { device: "pump-8", connected: false }]);
  const version = fleet.version.value;
  fleet.receiveProgress({
    type: "progress",
    devices: ["pump-7", "unknown"],
    acked: [1956, 1],
    backlog: [0, 1],
    seen: [7_000_000, 1],
  });
  expect(fleet.get("pump-7")?.state.value).toEqual({ ...before, acked: 1956, backlog: 0, seen: 7_000_000 });
  expect(fleet.get("pump-7")?.lastReading_ms).toBe(7);
  expect(fleet.get("unknown")).toBeUndefined();
  expect(fleet.version.value).toBe(version + 1);
});

test("only sources that do not work have failed", () => {
  const works = { name: "a", ok: true, since: 1 };
  const failed = { name: "b", ok: false, since: 1, error: "no connection" };
  expect(failedSources({ device: "d", connected: true, sources: [works, failed] })).toEqual([failed]);
  expect(failedSources({ device: "d", connected: true })).toEqual([]);
});

test("a device whose agent has never connected is not offline", () => {
  const fleet = new FleetStore();
  fleet.receiveFleet([
    { device: "imported", connected: false },
    { device: "importing", connected: true },
    { device: "left", connected: false, agent: "telemetry-hub-agent/1" },
    { device: "returning", connected: false, agent: "telemetry-hub-agent/1", presence: "reconnecting" },
    { device: "silent", connected: true, presence: "silent", stale: ["flow"] },
    { device: "works", connected: true, presence: "connected", stale: ["flow"] },
    { device: "retired", connected: false, presence: "retired" },
  ]);
  const conditions = [...fleet.records.values()].map((record) => conditionOf(record));
  expect(conditions).toEqual([
    ...["unconnected", "online", "offline", "reconnecting", "silent", "online", "unconnected"],
  ]);
});

test("the last reading of a device that is not connected has its own time, not the time of its import", async () => {
  const imported = { device: "boiler-1", connected: false, seen: Date.now() * 1e6 };
  const latest = { time_ns: 757_382_400_000 * 1e6, value: 21.5 };
  const info = { ...imported, metrics: [{ metric: "temp", type: "float", unit: "", description: "", latest }] };
  vi.stubGlobal("fetch", async () => new Response(JSON.stringify(info)));
  vi.stubGlobal("window", { location: { pathname: "/" } });
  const fleet = new FleetStore();
  fleet.receiveFleet([imported]);
  const record = fleet.get("boiler-1");
  if (record === undefined) throw new Error("the device is missing");
  expect(lastReading(record)).toBe(imported.seen / 1e6);
  await fleet.fetch("boiler-1");
  expect(lastReading(record)).toBe(757_382_400_000);
  expect(lastSeen(record)).toBe(imported.seen / 1e6);
  fleet.receiveDevices([{ ...imported, connected: true }]);
  expect(lastReading(record)).toBe(imported.seen / 1e6);
  expect(lastSeen(record)).toBeNull();
  vi.unstubAllGlobals();
});

test("a device of which the hub knows no reading has no last reading", async () => {
  const imported = { device: "boiler-1", connected: false, seen: 7_000_000 };
  const metrics = [{ metric: "temp", type: "float", unit: "", description: "", latest: null }];
  vi.stubGlobal("fetch", async () => new Response(JSON.stringify({ ...imported, metrics })));
  vi.stubGlobal("window", { location: { pathname: "/" } });
  const fleet = new FleetStore();
  fleet.receiveFleet([imported]);
  const record = fleet.get("boiler-1");
  if (record === undefined) throw new Error("the device is missing");
  await fleet.fetch("boiler-1");
  expect(lastReading(record)).toBe(0);
  vi.unstubAllGlobals();
});

test("a device without metrics has no last reading until the hub receives more", async () => {
  const refused = { device: "boiler-1", connected: true, seen: 7_000_000 };
  vi.stubGlobal("fetch", async () => new Response(JSON.stringify({ ...refused, metrics: [] })));
  vi.stubGlobal("window", { location: { pathname: "/" } });
  const fleet = new FleetStore();
  fleet.receiveFleet([refused]);
  const record = fleet.get("boiler-1");
  if (record === undefined) throw new Error("the device is missing");
  await fleet.fetch("boiler-1");
  expect(lastReading(record)).toBe(0);
  fleet.receiveProgress({ type: "progress", devices: ["boiler-1"], acked: [2], backlog: [0], seen: [9_000_000] });
  expect(lastReading(record)).toBe(9);
  vi.unstubAllGlobals();
});

test("the address has the filter of the fleet by the hub's name of the state", () => {
  for (const [name, filter] of [
    ["connected", "online"],
    ["silent", "silent"],
    ["retired", "retired"],
  ] as const) {
    expect(filterOf(`?state=${name}`)).toBe(filter);
    expect(queryWith("", filter)).toBe(`state=${name}`);
  }
  expect(filterOf("?state=constructor")).toBeNull();
  expect(queryWith("?state=silent&x=1", null)).toBe("x=1");
});

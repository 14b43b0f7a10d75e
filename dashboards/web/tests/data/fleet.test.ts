import { expect, test } from "vitest";
import { FleetStore, failedSources } from "../../src/data/fleet";

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

import { expect, test } from "vitest";
import { FleetStore } from "../../src/data/fleet";

test("a retired device leaves the fleet, remains known, and returns when it connects", () => {
  const fleet = new FleetStore();
  fleet.receiveFleet([
    { device: "pump-7", connected: true },
    { device: "pump-8", connected: false },
  ]);
  const record = fleet.get("pump-8");
  fleet.receiveDevice({ device: "pump-8", connected: false, retired: true });
  expect([...fleet.records.keys()]).toEqual(["pump-7"]);
  expect(fleet.get("pump-8")).toBe(record);
  expect(record?.state.value.retired).toBe(true);
  fleet.receiveDevice({ device: "pump-8", connected: true });
  expect([...fleet.records.keys()]).toEqual(["pump-7", "pump-8"]);
  expect(fleet.get("pump-8")).toBe(record);
});

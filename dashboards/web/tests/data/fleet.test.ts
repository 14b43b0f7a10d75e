import { expect, test } from "vitest";
import { FleetStore } from "../../src/data/fleet";

test("a device that retires leaves the fleet, is still known, and comes back", () => {
  const fleet = new FleetStore();
  fleet.fleet([
    { device: "pump-7", connected: true },
    { device: "pump-8", connected: false },
  ]);
  const record = fleet.known("pump-8");
  fleet.device({ device: "pump-8", connected: false, retired: true });
  expect([...fleet.records.keys()]).toEqual(["pump-7"]);
  expect(fleet.known("pump-8")).toBe(record);
  expect(record?.state.value.retired).toBe(true);
  fleet.device({ device: "pump-8", connected: true });
  expect([...fleet.records.keys()]).toEqual(["pump-7", "pump-8"]);
  expect(fleet.known("pump-8")).toBe(record);
});

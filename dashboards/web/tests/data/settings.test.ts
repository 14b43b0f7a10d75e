import { describe, expect, it } from "vitest";
import { fieldKind, fieldText } from "../../src/data/commands";
import { differenceText, isMoving, parameterOf } from "../../src/data/settings";
import type { SettingDetails } from "../../src/wire/api";

const declared = { type: "float", unit: "bar", min: 1, max: 6, choices: [], description: "", usage: "" } as const;

function setting(desired: Partial<NonNullable<SettingDetails["desired"]>> | null): SettingDetails {
  const value = { value: 3.5, version: 1, time_ns: 1, operator: "operator k3vq", code: "", message: "" };
  return {
    name: "target_pressure",
    declared: { ...declared, choices: [] },
    desired: desired === null ? null : { ...value, state: "out_of_sync", ...desired },
    reported: 2.5,
  };
}

const link = { device: "pump-7", isConnected: true, isCurrent: true };

describe("differenceText", () => {
  it("never calls a value in sync that the device has not reported on this connection", () => {
    expect(differenceText(setting({ state: "in_sync" }), link)).toBe("");
    expect(differenceText(setting({ state: "in_sync" }), { ...link, isCurrent: false })).toBe(
      "As pump-7 reported last.",
    );
  });

  it("explains a difference", () => {
    const waiting = setting({ code: "not_processed", message: "the device has not processed this value yet" });
    expect(differenceText(waiting, link)).toBe("pump-7 has not processed it yet.");
    expect(differenceText(waiting, { ...link, isConnected: false })).toBe(
      "pump-7 is not connected: it gets the value when it returns.",
    );
    expect(differenceText(setting({ code: "differs", message: "the device has another value" }), link)).toBe(
      "The device has another value.",
    );
    expect(differenceText(setting({ state: "rejected", code: "too_high" }), link)).toBe("pump-7 refuses it: too high.");
    expect(differenceText(setting({ state: "unknown", code: "not_declared" }), link)).toContain("not declare");
    expect(differenceText(setting(null), link)).toBe("");
  });
});

describe("the form of a setting", () => {
  it("begins with the value that is desired or in force, and has no default", () => {
    const parameter = parameterOf(setting(null));
    expect(parameter?.default).toBeNull();
    expect(parameter && [fieldKind(parameter), fieldText(parameter, 2.5), fieldText(parameter, null)]).toEqual([
      "number",
      "2.5",
      "",
    ]);
    expect(parameterOf({ ...setting({}), declared: null })).toBeNull();
  });
});

describe("isMoving", () => {
  it("is true while a value waits for the device", () => {
    expect(isMoving([setting(null), setting({ state: "in_sync" }), setting({ state: "rejected" })])).toBe(false);
    expect(isMoving([setting({ state: "in_sync" }), setting({})])).toBe(true);
  });
});

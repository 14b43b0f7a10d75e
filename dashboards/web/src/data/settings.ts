/** Settings of a device: the words of the difference between what is desired and what it reports. Pure. */

import type { DeclaredParameter, SettingDetails } from "../wire/api";

export type SyncState = NonNullable<SettingDetails["desired"]>["state"];

export const SYNC_TEXTS: Record<SyncState, string> = {
  in_sync: "In sync",
  out_of_sync: "Waiting",
  rejected: "Rejected",
  unknown: "Unknown",
};

/** Return a setting as a parameter, for the form. A setting has no default: no value of it is preselected. */
export function parameterOf({ name, declared }: SettingDetails): DeclaredParameter | null {
  if (declared === null) return null;
  const { type, unit, min, max, choices, description } = declared;
  return { name, type, unit, min, max, choices, description, required: true, default: null };
}

/** Whether the device is connected, and has reported its settings since it connected. */
export interface DeviceLink {
  device: string;
  isConnected: boolean;
  isCurrent: boolean;
}

/** Return what the state of a desired value means, as a sentence; empty without a desired value. */
export function differenceText({ desired }: SettingDetails, { device, isConnected, isCurrent }: DeviceLink): string {
  if (desired === null) return "";
  if (desired.state === "in_sync") return isCurrent ? "" : `As ${device} reported last.`;
  if (desired.code === "not_declared")
    return isConnected
      ? `${device} does not declare this setting any more.`
      : `${device} does not declare this setting, and is not connected.`;
  const reason = desired.message === "" ? desired.code.replaceAll("_", " ") : desired.message;
  if (desired.state === "rejected") return `${device} refuses it: ${reason}.`;
  if (!isConnected) return `${device} is not connected: it gets the value when it returns.`;
  return desired.code === "not_processed"
    ? `${device} has not processed it yet.`
    : `${reason.charAt(0).toUpperCase()}${reason.slice(1)}.`;
}

/** Return whether the device may report soon: somebody waits for it. */
export function isMoving(settings: SettingDetails[]): boolean {
  return settings.some(({ desired }) => desired?.state === "out_of_sync" || desired?.state === "unknown");
}

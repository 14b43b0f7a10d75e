/** Preferences that this browser remembers: the theme and the devices that were opened last. */

import { effect, signal } from "@preact/signals";
import { resetThemeColours } from "../chart/theme_colours";

export const THEMES = ["system", "light", "dark"] as const;
const MAX_RECENT_DEVICES = 8;

export const theme = signal<(typeof THEMES)[number]>(
  THEMES.find((name) => name === readPreference("theme")) ?? "system",
);
export const recentDevices = signal<string[]>(loadRecentDevices());

export function nextTheme(): void {
  theme.value = THEMES[(THEMES.indexOf(theme.value) + 1) % THEMES.length];
}

export function startTheme(): void {
  effect(() => {
    if (theme.value === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme.value;
    writePreference("theme", theme.value);
    resetThemeColours();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", resetThemeColours);
}

function loadRecentDevices(): string[] {
  try {
    const saved: unknown = JSON.parse(readPreference("recent") ?? "[]");
    if (!Array.isArray(saved)) return [];
    return saved.filter((device) => typeof device === "string").slice(0, MAX_RECENT_DEVICES);
  } catch {
    return [];
  }
}

/** Add an opened device. A device that is already listed keeps its place, so that no entry moves. */
export function addRecentDevice(device: string): void {
  if (recentDevices.peek().includes(device)) return;
  recentDevices.value = [device, ...recentDevices.peek()].slice(0, MAX_RECENT_DEVICES);
  writePreference("recent", JSON.stringify(recentDevices.peek()));
}

/** Return a saved preference, or null. The browser may block its storage. */
export function readPreference(key: string): string | null {
  try {
    return localStorage.getItem(`telemetry-hub.${key}`);
  } catch {
    return null;
  }
}

export function writePreference(key: string, value: string): void {
  try {
    localStorage.setItem(`telemetry-hub.${key}`, value);
  } catch {
    // Without storage the next visit shows the defaults.
  }
}

/** Light, dark, or as the system is; remembered in this browser. */

import { effect, signal } from "@preact/signals";
import { forgetColours } from "../chart/theme_colours";

export type Theme = "system" | "light" | "dark";

const KEY = "theme";
const ORDER: readonly Theme[] = ["system", "light", "dark"];

export const theme = signal<Theme>(remembered());
/** Counts every change of the colours that are seen, the system's included. */
export const colours = signal(0);

function remembered(): Theme {
  const kept = read(KEY);
  return ORDER.find((known) => known === kept) ?? "system";
}

export function nextTheme(): void {
  theme.value = ORDER[(ORDER.indexOf(theme.value) + 1) % ORDER.length];
}

export function startTheme(): void {
  effect(() => {
    const chosen = theme.value;
    if (chosen === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = chosen;
    write(KEY, chosen);
    repaint();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
}

function repaint(): void {
  forgetColours();
  colours.value = colours.peek() + 1;
}

/** What the browser keeps for this page; it may refuse to keep anything. */
export function read(key: string): string | null {
  try {
    return localStorage.getItem(`telemetry-hub.${key}`);
  } catch {
    return null;
  }
}

export function write(key: string, value: string): void {
  try {
    localStorage.setItem(`telemetry-hub.${key}`, value);
  } catch {
    // A browser that keeps nothing shows the defaults next time.
  }
}

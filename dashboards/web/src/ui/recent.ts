/** The devices that were looked at last; remembered in this browser. */

import { signal } from "@preact/signals";
import { read, write } from "./theme";

const KEY = "recent";
const KEPT = 8;

export const recent = signal<string[]>(remembered());

function remembered(): string[] {
  try {
    const kept: unknown = JSON.parse(read(KEY) ?? "[]");
    return Array.isArray(kept) ? kept.filter((device) => typeof device === "string").slice(0, KEPT) : [];
  } catch {
    return [];
  }
}

/** A device is looked at; the list keeps its order when it is there already, so that nothing jumps. */
export function remember(device: string): void {
  if (recent.peek().includes(device)) return;
  recent.value = [device, ...recent.peek()].slice(0, KEPT);
  write(KEY, JSON.stringify(recent.peek()));
}

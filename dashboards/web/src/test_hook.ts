/**
 * What the charts hold, for tests: `window.__hub.series(device, metric)` gives the readings of a metric of the device whose page is
 * open, null for any other. It only reads.
 */

import type { DeviceData } from "./data/device_data";

export interface HeldSeries {
  times_ms: number[];
  values: (number | boolean | string | null)[];
}

declare global {
  interface Window {
    __hub?: { series(device: string, metric: string): HeldSeries | null };
  }
}

const observed = new Map<string, DeviceData>();

/** The page of a device is open; returns what says that it is closed. */
export function observe(device: string, data: DeviceData): () => void {
  observed.set(device, data);
  return () => {
    if (observed.get(device) === data) observed.delete(device);
  };
}

export function exposeTestHook(): void {
  window.__hub = {
    series(device, metric) {
      const data = observed.get(device);
      const columns = data?.columnsOf(metric);
      if (data === undefined || columns === null || columns === undefined) return null;
      const held = data.conductor.feed.series.get(metric);
      const type = held?.info.type ?? "float";
      return {
        times_ms: Array.from(columns.times),
        values: Array.from(columns.values, (value) => {
          if (Number.isNaN(value)) return null;
          if (type === "string") return held?.buffer.textOf(value) ?? null;
          return value;
        }),
      };
    },
  };
}

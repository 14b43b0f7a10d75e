/**
 * What the charts hold, for tests: `window.__hub.series(device, metric)` gives the readings of a metric of the device whose page is
 * open, null for any other. It only reads.
 */

import type { DeviceData } from "./pages/device/device_data";

export interface HeldSeries {
  times_ms: number[];
  /** Numbers, texts of string metrics, 1 and 0 of booleans, null where there is no value. */
  values: (number | string | null)[];
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
      const held = data?.conductor.feed.series.get(metric);
      if (data === undefined || held === undefined) return null;
      const columns = data.columnsOf(metric);
      return {
        times_ms: Array.from(columns.times),
        values: Array.from(columns.values, (value) => {
          if (Number.isNaN(value)) return null;
          if (held.info.type === "string") return held.buffer.textOf(value);
          return value;
        }),
      };
    },
  };
}

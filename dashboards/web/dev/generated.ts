/** Generated state and readings of the development devices. */

import type { DeviceState } from "../src/wire/live";
import type { DevDevice, DevMetric } from "./scenario";

export const STARTED_MS = Date.now();
export const JOURNAL = "development0";
export const HUB_AGE_MS = 3 * 3_600_000;

export const secondNow = () => Math.floor((Date.now() - STARTED_MS) / 1000);
export const timeOf = (second: number) => STARTED_MS + second * 1000;

export function lastAlive(device: DevDevice): number {
  for (let second = secondNow(); second > -20_000; second--) if (device.alive(second)) return second;
  return -20_000;
}

export function stateOf(device: DevDevice): DeviceState {
  const seen = timeOf(lastAlive(device));
  return {
    device: device.device,
    connected: device.connected,
    since: (device.connected ? STARTED_MS - 11_520_000 : seen) * 1e6,
    seen: seen * 1e6,
    epoch: "00000000000000a1",
    acked: 48_211 + secondNow(),
    backlog: device.backlog,
    agent: device.agent,
    tags: device.tags,
    clock_offset_ns: device.clock_offset_ns,
    clock_error_ns: 400_000,
    sources: [
      {
        name: "/dev/ttyUSB0",
        ok: device.failed !== true,
        since: (STARTED_MS - 40_000) * 1e6,
        error: device.failed ? "no connection: the port does not exist; is the device plugged in?" : "",
      },
    ],
  };
}

export interface Points {
  times: number[];
  values: (number | string)[];
  reduced: boolean;
}

/**
 * Return readings for every second from `from` to `to`, both included. With too many, return the minimum and
 * maximum of each interval.
 */
export function readings(
  device: DevDevice,
  metric: DevMetric,
  from: number,
  to: number,
  points = Number.POSITIVE_INFINITY,
): Points {
  const count = to - from + 1;
  const step = count > points ? Math.ceil(count / (points / 2)) : 1;
  const result: Points = { times: [], values: [], reduced: step > 1 };
  const ahead = device.clock_offset_ns / 1e6;
  for (let second = from; second <= to; second += step) {
    if (!device.alive(second)) continue;
    const sampled = Math.min(step, 8);
    const seconds = Array.from({ length: sampled }, (_, i) => second + Math.floor((i * step) / sampled));
    const values = seconds.filter((at) => at <= to).map((at) => ({ at, value: metric.at(timeOf(at) / 1000) }));
    if (step > 1 && metric.type !== "string") {
      values.sort((a, b) => Number(a.value) - Number(b.value));
      values.splice(1, values.length - 2);
      values.sort((a, b) => a.at - b.at);
    } else values.splice(1);
    for (const { at, value } of values) {
      result.times.push(timeOf(at) + ahead);
      result.values.push(value);
    }
  }
  return result;
}

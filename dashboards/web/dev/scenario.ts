/** Development fleets: generated devices with realistic signals. */

import type { MetricType } from "../src/wire/live";

export interface DevMetric {
  metric: string;
  type: MetricType;
  unit: string;
  description: string;
  at(time_s: number): number | string;
}

export interface DevDevice {
  device: string;
  tags: Record<string, string>;
  agent: string;
  metrics: DevMetric[];
  backlog: number;
  /** True if its source has failed. */
  failed?: boolean;
  clock_offset_ns: number;
  /** Return whether a reading exists at this second, counted from the start of the development hub. */
  alive(second: number): boolean;
  connected: boolean;
}

function noise(seed: number, step: number): number {
  let x = Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul(step, 0xc2b2ae35);
  x ^= x >>> 15;
  x = Math.imul(x, 0x2c1b3c6d);
  x ^= x >>> 12;
  return (x >>> 0) / 2 ** 32 - 0.5;
}

/** Slow waves with noise. */
function wave(seed: number, middle: number, swing: number, decimals: number) {
  return (time_s: number): number => {
    const phase = noise(seed, 1) * 20;
    const slow = Math.sin(time_s / (97 + 40 * noise(seed, 2)) + phase);
    const fast = Math.sin(time_s / (13 + 6 * noise(seed, 3)) + phase * 2);
    const value = middle + swing * (0.6 * slow + 0.25 * fast + 0.3 * noise(seed, Math.floor(time_s)));
    return Number(value.toFixed(decimals));
  };
}

const SPEC: Record<string, [string, MetricType, string, string, number, number, number][]> = {
  pump: [
    ["flow", "float", "m³/h", "Flow at the outlet", 42, 6, 2],
    ["pressure", "float", "bar", "Pressure at the outlet", 6.2, 0.5, 3],
    ["motor_temperature", "float", "°C", "Temperature of the winding", 61, 6, 1],
    ["vibration", "float", "mm/s", "Vibration velocity at the bearing, RMS", 2.4, 1.1, 2],
    ["running", "boolean", "", "Whether the motor is on", 0, 0, 0],
    ["starts", "integer", "", "How often the motor was started", 1204, 0, 0],
  ],
  weather: [
    ["temperature", "float", "°C", "Air temperature at 2 m", 18.4, 4, 2],
    ["humidity", "float", "%", "Relative humidity", 61, 12, 1],
    ["pressure", "float", "hPa", "Air pressure, reduced to sea level", 1013, 4, 2],
    ["wind_speed", "float", "m/s", "Wind speed at 10 m", 4.2, 3, 1],
  ],
  machine: [
    ["state", "string", "", "off, setup, running, waiting or fault", 0, 0, 0],
    ["spindle_speed", "float", "1/min", "Speed of the spindle", 8200, 700, 0],
    ["spindle_temperature", "float", "°C", "Temperature of the spindle's bearing", 47, 5, 2],
    ["power", "float", "kW", "Electric power drawn", 5.1, 2.2, 3],
    ["parts", "integer", "", "Parts made in all", 48211, 0, 0],
  ],
};

const STATES = ["running", "running", "waiting", "setup", "running", "fault"];

function metricsOf(kind: string, seed: number): DevMetric[] {
  return SPEC[kind].map(([metric, type, unit, description, middle, swing, decimals], index) => {
    const own = seed * 31 + index;
    let at: DevMetric["at"] = wave(own, middle, swing, decimals);
    if (type === "boolean") at = (time) => (noise(own, Math.floor(time / 45)) > -0.3 ? 1 : 0);
    if (type === "string") at = (time) => STATES[Math.floor((noise(own, Math.floor(time / 37)) + 0.5) * STATES.length)];
    if (type === "integer") at = (time) => middle + Math.floor((time % 1e6) / 61);
    return { metric, type, unit, description, at };
  });
}

function computer(seed: number): DevMetric[] {
  const float = (
    metric: string,
    unit: string,
    description: string,
    middle: number,
    swing: number,
    decimals: number,
  ) => ({
    metric,
    type: "float" as MetricType,
    unit,
    description,
    at: wave(seed++, middle, swing, decimals),
  });
  return [
    ...Array.from({ length: 8 }, (_, core) => float(`cpu.core${core}`, "%", `Load of core ${core}`, 38, 30, 1)),
    float("memory.used", "B", "Memory in use", 9.4e9, 6e8, 0),
    float("disk.read", "B/s", "Read from all disks", 2.4e6, 2.2e6, 0),
    float("disk.written", "B/s", "Written to all disks", 7.5e5, 6e5, 0),
    float("network.received", "B/s", "Received from the network", 1.2e6, 1.1e6, 0),
    float("temperature.package", "°C", "Temperature of the processor", 54, 9, 1),
    float("load", "", "Processes that want to run, 1 minute", 1.4, 0.9, 2),
  ];
}

function createDevice(device: string, kind: string, seed: number, options: Partial<DevDevice> = {}): DevDevice {
  return {
    device,
    tags: { type: kind, site: ["Hall 1", "Hall 2", "Yard"][seed % 3], line: `L${1 + (seed % 4)}` },
    agent: "device-agent 0.1.0",
    metrics: kind === "computer" ? computer(seed * 100) : metricsOf(kind, seed),
    backlog: 0,
    clock_offset_ns: Math.round(noise(seed, 9) * 9e6),
    alive: () => true,
    connected: true,
    ...options,
  };
}

const LONG = "x-building-7.floor-12.room-1204.rack-03.sensor-temperature-00042-b".slice(0, 64);

function fleet(): DevDevice[] {
  const kinds = ["pump", "weather", "machine"];
  const devices = Array.from({ length: 20 }, (_, i) => {
    const kind = kinds[i % 3];
    return createDevice(`${kind}-${String(1 + Math.floor(i / 3)).padStart(2, "0")}`, kind, i + 1);
  });
  devices[4] = createDevice("weather-02", "weather", 5, { connected: false, alive: (second) => second < -340 });
  devices[7] = createDevice("weather-03", "weather", 8, { alive: (second) => second < -90 });
  devices[9] = createDevice("pump-04", "pump", 10, { backlog: 1204 });
  devices[11] = createDevice("machine-04", "machine", 12, { failed: true, alive: (second) => second < -40 });
  // One device with a past outage, and one with a wrong clock.
  devices[0] = createDevice("pump-01", "pump", 1, { alive: (second) => second < -150 || second > -80 });
  devices[2] = createDevice("machine-01", "machine", 3, { clock_offset_ns: 3.4e9 });
  return [createDevice("this-computer", "computer", 77), ...devices];
}

function extremes(): DevDevice[] {
  const wide = createDevice(LONG, "pump", 3, {
    tags: { type: "a-type-with-a-very-long-name-indeed", note: "y".repeat(120) },
  });
  wide.metrics = [
    ...["total_energy", "revenue", "a_metric_name_that_is_so_long_that_it_can_not_fit_into_any_legend_at_all_0"].map(
      (metric, index): DevMetric => ({
        metric,
        type: index === 0 ? "integer" : "float",
        unit: index === 2 ? "kg·m²/s³·A" : "Wh",
        description: "Twelve digits before the point",
        at: (time) => Math.round((123_456_789_012 + (time % 100_000) * 7919) * 100) / (index === 1 ? 100 : 1),
      }),
    ),
    {
      metric: "tiny",
      type: "float",
      unit: "A",
      description: "",
      at: (time) => 1e-7 * (2 + Math.sin(time / 9)),
    },
    { metric: "constant", type: "float", unit: "V", description: "Always the same", at: () => 230 },
    {
      metric: "message",
      type: "string",
      unit: "",
      description: "",
      at: (time) => `A long message, number ${Math.floor(time / 60)}`,
    },
  ];
  return [wide, createDevice("a", "weather", 2)];
}

/** 20 units of 50 metrics at one reading per second: the load that the page must handle. */
function stress(): DevDevice[] {
  const device = createDevice("stress", "pump", 1);
  device.metrics = Array.from({ length: 1000 }, (_, index) => ({
    metric: `group${String(Math.floor(index / 50)).padStart(2, "0")}.m${index % 50}`,
    type: "float" as MetricType,
    unit: `u${Math.floor(index / 50)}`,
    description: "",
    at: wave(index, 50 + (index % 50), 12, 3),
  }));
  return [device];
}

export const SCENARIOS: Record<string, () => DevDevice[]> = {
  fleet,
  empty: () => [],
  one: () => fleet().slice(1, 2),
  many: () =>
    Array.from({ length: 10_000 }, (_, i) =>
      createDevice(`sensor-${String(i).padStart(5, "0")}`, ["pump", "weather", "machine"][i % 3], i, {
        connected: i % 97 !== 13,
        alive: i % 97 === 13 ? (second) => second < -4000 : () => true,
      }),
    ),
  extremes,
  stress,
};

/** HTTP API of the development hub. */

import { HUB_AGE_MS, JOURNAL, lastAlive, readings, STARTED_MS, secondNow, stateOf, timeOf } from "./generated";
import type { DevDevice } from "./scenario";

function deviceInfo(device: DevDevice): object {
  const second = lastAlive(device);
  return {
    ...stateOf(device),
    metrics: device.metrics.map(({ metric, type, unit, description, at }) => {
      const value = at(timeOf(second) / 1000);
      const latest = { time_ns: timeOf(second) * 1e6, value: type === "boolean" ? value === 1 : value };
      const freshness = { reporting: "periodic", interval_ns: 1e9, stale_after_ns: 5e9, stale: false };
      return { metric, type, unit, description, latest, freshness };
    }),
  };
}

function eventsOf(device: DevDevice): object[] {
  const events = [];
  for (let second = secondNow(); second > -4000; second--) {
    if (device.alive(second) === device.alive(second - 1)) continue;
    events.push({
      time_ns: timeOf(second) * 1e6,
      kind: device.alive(second) ? "connected" : "disconnected",
      detail: device.alive(second) ? device.agent : "connection lost",
    });
  }
  return [...events, { time_ns: (STARTED_MS - HUB_AGE_MS) * 1e6, kind: "connected", detail: device.agent }];
}

function history(fleet: DevDevice[], query: URLSearchParams): object {
  const second = (name: string) => Math.floor((Number(query.get(name)) / 1e6 - STARTED_MS) / 1000);
  const metrics = query.getAll("metric");
  const points = Number(query.get("points") ?? 1000);
  const oldest = Math.floor(-HUB_AGE_MS / 1000);
  const series = fleet
    .filter(({ device }) => device === query.get("device"))
    .flatMap((device) =>
      device.metrics
        .filter(({ metric }) => metrics.length === 0 || metrics.includes(metric))
        .map((metric) => {
          const from = Math.max(oldest, second("from"));
          const found = readings(device, metric, from, Math.min(secondNow(), second("to")), points);
          return {
            device: device.device,
            metric: metric.metric,
            type: metric.type,
            unit: metric.unit,
            resolution: found.reduced ? "reduced" : "raw",
            time_ns: found.times.map((time) => Math.round(time) * 1e6),
            values: found.values,
          };
        }),
    );
  return { offset: secondNow() + 1_000_000, series };
}

/** Accounting of a store that writes every three seconds; a disconnected device is off by two readings. */
function flow(fleet: DevDevice[], limit: number): object {
  const written = secondNow() - (secondNow() % 3);
  const accounting = fleet.map((device) => {
    const rate = device.metrics.length;
    const accepted = (48_211 + secondNow()) * rate;
    const waiting = (secondNow() - written) * rate;
    const difference = device.connected ? 0 : 2;
    const expired = 12_000 * rate;
    const stored = accepted - waiting - difference - expired;
    return { device: device.device, accepted, stored, waiting, refused: 0, expired, difference };
  });
  const sum = (name: "accepted" | "stored" | "waiting" | "expired" | "difference") =>
    accounting.reduce((total, counts) => total + counts[name], 0);
  const balance = {
    stored: sum("stored"),
    waiting: sum("waiting"),
    refused: 0,
    expired: sum("expired"),
    difference: sum("difference"),
  };
  const last = 1_000_000 + secondNow() * fleet.length;
  const lag = (secondNow() - written) * fleet.length;
  const totals = {
    ...balance,
    accepted: sum("accepted"),
    accepted_batches: last,
    duplicate_batches: 12,
    quarantined: 40,
    quarantined_batches: 3,
    lost_batches: 0,
  };
  return {
    journal: { id: JOURNAL, first_offset: 1, last_offset: last, size_bytes: 1_288_490_188 },
    consumers: [{ name: "store", offset: last - lag, lag, ...balance }],
    store: { phase: "running", since_ns: STARTED_MS * 1e6, error: null, missed: 0 },
    totals,
    devices: accounting
      .sort((a, b) => b.difference - a.difference || b.waiting - a.waiting)
      .slice(0, limit)
      .map((counts) => ({ ...totals, ...counts })),
  };
}

const ADMIN = { id: "k3vq7m2xw5tz4ahd", role: "admin", label: "created at the first start" };
const TIMES = { created_ns: STARTED_MS * 1e6, last_used_ns: STARTED_MS * 1e6 };
const TOKENS = { tokens: [{ ...ADMIN, ...TIMES, pattern: "", expires_ns: null }], next: null };
const SESSION = { id: "s", token: ADMIN.id, role: ADMIN.role, label: ADMIN.label, current: true };
const SESSIONS = { sessions: [{ ...SESSION, ...TIMES, expires_ns: (STARTED_MS + 86_400_000) * 1e6 }], next: null };
const FILE = "telemetry_hub-0.1.0-py3-none-any.whl";
const DOWNLOAD = {
  file: FILE,
  path: `/download/${FILE}`,
  sha256: "0".repeat(64),
  size_bytes: 878_574,
  requires_python: ">=3.11",
  libraries: 0,
};

/** A device with a wrong token that connects again and again, while the page waits for the first device. */
const REFUSALS = [
  {
    code: "not_authenticated",
    reason: "the token is not valid",
    remedy: "create a token with `hub token create`",
    path: "/v1/plain",
    peer: "192.0.2.7",
    count: 3,
    last_ns: STARTED_MS * 1e6,
  },
];

/** Commands that every device of the development hub declares. */
const COMMANDS = [
  {
    name: "set_speed",
    description: "Drive at this speed",
    confirm: false,
    parameters: [
      {
        name: "speed",
        type: "float",
        unit: "km/h",
        min: 0,
        max: 110,
        choices: [],
        required: true,
        default: null,
        description: "",
      },
    ],
    usage: "set_speed speed=FLOAT km/h (0 to 110)",
  },
  { name: "stop", description: "Stand still", confirm: true, parameters: [], usage: "stop" },
];

/** A setting that every device of the development hub declares, and has as it is desired. */
const SETTINGS = {
  version: 1,
  changed_ns: STARTED_MS * 1e6,
  reported_version: 1,
  reported_ns: STARTED_MS * 1e6,
  is_current: true,
  state: "in_sync",
  revision: "1-1",
  settings: [
    {
      name: "target_pressure",
      declared: { type: "float", unit: "bar", min: 2, max: 8, choices: [], description: "Pressure to hold", usage: "" },
      desired: {
        value: 4,
        version: 1,
        time_ns: STARTED_MS * 1e6,
        operator: "operator k3vq7m2xw5tz4ahd",
        state: "in_sync",
        code: "",
        message: "",
      },
      reported: 4,
    },
  ],
};

/** Return status and body. */
export function respond(
  method: string,
  path: string,
  query: URLSearchParams,
  fleet: DevDevice[],
  scenario: string,
): [number, object] {
  if (path === "/api/v1/hub")
    return [
      200,
      {
        hub: "development",
        name: "Plant north",
        version: "0.1.0",
        journal: JOURNAL,
        started_ns: (STARTED_MS - HUB_AGE_MS) * 1e6,
        time_ns: Date.now() * 1e6,
        role: "admin",
        problems: scenario === "trouble" ? { store: "InfluxDB at http://influxdb:8086 does not respond" } : {},
      },
    ];
  if (path === "/api/v1/devices") return [200, { devices: fleet.map(deviceInfo), next: null }];
  if (path === "/api/v1/flow") return [200, flow(fleet, Number(query.get("limit") ?? fleet.length))];
  if (path === "/api/v1/history") return [200, history(fleet, query)];
  if (path === "/api/v1/tokens")
    return method === "POST" ? [201, { id: "1", token: "hub_device_3Jm9example0000000000000000" }] : [200, TOKENS];
  if (path === "/api/v1/sessions") return [200, SESSIONS];
  if (path === "/api/v1/download") return [200, DOWNLOAD];
  if (path === "/api/v1/session") return [204, {}];
  if (path === "/api/v1/refusals") return [200, { refusals: scenario === "empty" ? REFUSALS : [] }];
  if (path === "/api/v1/quarantine") return [200, { quarantine: [], next: null }];
  if (path.endsWith("/presence")) return [200, { intervals: [] }];
  if (method === "GET" && path === "/api/v1/command-jobs") return [200, { jobs: [], next: null }];
  if (method === "GET" && path === "/api/v1/command-jobs/declared")
    return [
      200,
      {
        targets: fleet.length,
        commands: COMMANDS.map((command) => ({ command, devices: fleet.length, differing: 0, units: [] })),
      },
    ];
  if (method === "GET" && path === "/api/v1/access-requests") return [200, { requests: [] }];
  if (method === "GET" && path.endsWith("/commands/declared")) return [200, { commands: COMMANDS }];
  if (method === "GET" && path.endsWith("/commands")) return [200, { commands: [], next: null }];
  if (method === "GET" && path.endsWith("/desired")) return [200, SETTINGS];
  const [, id, events] = /^\/api\/v1\/devices\/([^/]+)(\/events)?$/.exec(path) ?? [];
  const device = fleet.find((known) => known.device === decodeURIComponent(id ?? ""));
  if (device === undefined) return [404, { title: "Not found", detail: `Unknown device: ${id}` }];
  return [200, events === undefined ? deviceInfo(device) : { events: eventsOf(device) }];
}

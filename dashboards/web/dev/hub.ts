/**
 * A development hub inside Vite's own server: speaks the live protocol and the HTTP API with made-up data, so that the page can be
 * worked on without anything else. The fleet is chosen by a cookie: scenario=fleet, empty, one, many, extremes, stress, signed-out.
 */

import type { IncomingMessage, ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import type { Connect, Plugin } from "vite";
import { type WebSocket, WebSocketServer } from "ws";
import { encodeUpdate, Kind } from "../src/wire/frames";
import {
  type DeviceState,
  decodeViewerMessage,
  encodeMessage,
  type LiveMessage,
  SUBPROTOCOL,
  type Subscribe,
} from "../src/wire/live";
import { type DevDevice, type DevMetric, SCENARIOS } from "./scenario";

const STARTED_MS = Date.now();
const JOURNAL = "development0";
const HUB_AGE_MS = 3 * 3_600_000;
const fleets = new Map<string, DevDevice[]>();
const sockets = new Set<WebSocket>();
let downUntil = 0;
let conflate = 0;

function scenarioOf(request: IncomingMessage): string {
  return /(?:^|;\s*)scenario=([a-z-]+)/.exec(request.headers.cookie ?? "")?.[1] ?? "fleet";
}

function fleetOf(scenario: string): DevDevice[] {
  let fleet = fleets.get(scenario);
  if (fleet === undefined) {
    fleet = (SCENARIOS[scenario] ?? SCENARIOS.fleet)();
    fleets.set(scenario, fleet);
  }
  return fleet;
}

const secondNow = () => Math.floor((Date.now() - STARTED_MS) / 1000);
const timeOf = (second: number) => STARTED_MS + second * 1000;

function lastAlive(device: DevDevice): number {
  for (let second = secondNow(); second > -20_000; second--) if (device.alive(second)) return second;
  return -20_000;
}

function stateOf(device: DevDevice): DeviceState {
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
  };
}

interface Points {
  times: number[];
  values: (number | string)[];
  reduced: boolean;
}

/** Readings at every second from `from` up to and including `to`; with too many, each interval's minimum and maximum. */
function readings(
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
    const values = seconds
      .filter((at) => at <= to)
      .map((at) => ({ at, value: metric.at(timeOf(at) / 1000) }));
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

const matches = (patterns: string[], name: string) =>
  patterns.some((pattern) =>
    new RegExp(
      `^${pattern
        .split("*")
        .map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"))
        .join(".*")}$`,
    ).test(name),
  );

class Viewer {
  private readonly socket: WebSocket;
  private readonly fleet: DevDevice[];
  private readonly subscriptions = new Map<
    number,
    { asked: Subscribe; sent: number; pairs: [DevDevice, DevMetric][] }
  >();
  private readonly timer: NodeJS.Timeout;

  constructor(socket: WebSocket, fleet: DevDevice[]) {
    this.socket = socket;
    this.fleet = fleet;
    this.send({
      type: "welcome",
      hub: "development",
      version: "0.1.0",
      journal: JOURNAL,
      offset: secondNow() + 1_000_000,
      time: Date.now() * 1e6,
      role: "admin",
    });
    socket.on("message", (data) => this.receive(String(data)));
    this.timer = setInterval(() => this.tick(), 200);
    socket.on("close", () => clearInterval(this.timer));
  }

  private send(message: LiveMessage): void {
    this.socket.send(encodeMessage(message));
  }

  private receive(frame: string): void {
    const message = decodeViewerMessage(frame);
    if (message.type === "ping") this.send({ type: "pong", time_ms: message.time_ms });
    else if (message.type === "watch_fleet") this.send({ type: "fleet", devices: this.fleet.map(stateOf) });
    else if (message.type === "unsubscribe") this.subscriptions.delete(message.id);
    else if (message.type === "subscribe") this.subscribe(message);
  }

  private subscribe(asked: Subscribe): void {
    const pairs = this.fleet
      .filter(({ device }) => matches(asked.devices, device))
      .flatMap((device) =>
        device.metrics
          .filter(({ metric }) => matches(asked.metrics, metric))
          .map((metric): [DevDevice, DevMetric] => [device, metric]),
      );
    const now = secondNow();
    this.send({
      type: "schema",
      schema: asked.id,
      first: 0,
      series: pairs.map(([{ device }, { metric, type, unit, description }]) => ({
        device,
        metric,
        type,
        unit,
        description,
      })),
    });
    const resumed = asked.cursor?.journal === JOURNAL ? asked.cursor.offset - 1_000_000 : null;
    this.send({
      type: "subscribed",
      id: asked.id,
      schema: asked.id,
      start: resumed === null ? "history" : "cursor",
    });
    const entry = { asked, sent: now, pairs };
    const from = resumed === null ? now - Math.floor((asked.history?.span_ms ?? 0) / 1000) : resumed + 1;
    if (resumed !== null || asked.history != null)
      this.update(entry, resumed === null ? Kind.HISTORY : Kind.MISSED, from, now, asked.history?.points);
    this.send({ type: "caught_up", id: asked.id, offset: now + 1_000_000 });
    this.subscriptions.set(asked.id, entry);
  }

  private tick(): void {
    const now = secondNow();
    for (const entry of this.subscriptions.values()) {
      if (entry.sent >= now) continue;
      this.update(entry, Kind.LIVE, entry.sent + 1, now);
      entry.sent = now;
    }
  }

  private update(
    { asked, pairs }: { asked: Subscribe; pairs: [DevDevice, DevMetric][] },
    kind: Kind,
    from: number,
    to: number,
    points?: number,
  ): void {
    const numbers = [];
    const texts = [];
    for (const [series, [device, metric]] of pairs.entries()) {
      if (!device.connected && kind === Kind.LIVE) continue;
      const { times, values } = readings(device, metric, from, to, points);
      if (times.length === 0) continue;
      if (metric.type === "string") texts.push({ series, times_ms: times, values: values.map(String) });
      else
        numbers.push({
          series,
          times_ms: Float64Array.from(times),
          values: Float64Array.from(values, Number),
        });
    }
    const offset = kind === Kind.HISTORY ? 0 : to + 1_000_000;
    const conflated = kind === Kind.LIVE ? conflate : 0;
    if (kind === Kind.LIVE) conflate = 0;
    this.socket.send(
      encodeUpdate({ kind, schema: asked.id, subscription: asked.id, conflated, offset, numbers, texts }),
    );
  }
}

function infoOf(device: DevDevice): object {
  const second = lastAlive(device);
  return {
    ...stateOf(device),
    metrics: device.metrics.map(({ metric, type, unit, description, at }) => {
      const value = at(timeOf(second) / 1000);
      const latest = { time_ns: timeOf(second) * 1e6, value: type === "boolean" ? value === 1 : value };
      return { metric, type, unit, description, latest };
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
      detail: device.alive(second) ? device.agent : "the connection broke",
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

/** The books of a store that writes once in three seconds; a device that is not connected is two readings off. */
function flow(fleet: DevDevice[], limit: number): object {
  const written = secondNow() - (secondNow() % 3);
  const books = fleet.map((device) => {
    const rate = device.metrics.length;
    const accepted = (48_211 + secondNow()) * rate;
    const waiting = (secondNow() - written) * rate;
    const difference = device.connected ? 0 : 2;
    const expired = 12_000 * rate;
    const stored = accepted - waiting - difference - expired;
    return { device: device.device, accepted, stored, waiting, refused: 0, expired, difference };
  });
  const sum = (name: "accepted" | "stored" | "waiting" | "expired" | "difference") =>
    books.reduce((total, book) => total + book[name], 0);
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
    quarantined_batches: 3,
    lost_batches: 0,
  };
  return {
    journal: { id: JOURNAL, first_offset: 1, last_offset: last, size_bytes: 1_288_490_188 },
    consumers: [{ name: "store", offset: last - lag, lag, ...balance }],
    store: { phase: "running", since_ns: STARTED_MS * 1e6, error: null, missed: 0 },
    totals,
    devices: books
      .sort((a, b) => b.difference - a.difference || b.waiting - a.waiting)
      .slice(0, limit)
      .map((book) => ({ ...totals, ...book })),
  };
}

function answer(path: string, query: URLSearchParams, scenario: string): [number, object] {
  const fleet = fleetOf(scenario);
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
      },
    ];
  if (path === "/api/v1/devices") return [200, { devices: fleet.map(infoOf), next: null }];
  if (path === "/api/v1/flow") return [200, flow(fleet, Number(query.get("limit") ?? fleet.length))];
  if (path === "/api/v1/history") return [200, history(fleet, query)];
  if (path === "/api/v1/tokens") return [201, { id: "1", token: "hub_device_3Jm9example0000000000000000" }];
  if (path === "/api/v1/session") return [204, {}];
  const [, id, events] = /^\/api\/v1\/devices\/([^/]+)(\/events)?$/.exec(path) ?? [];
  const device = fleet.find((known) => known.device === decodeURIComponent(id ?? ""));
  if (device === undefined) return [404, { title: "Not found", detail: `there is no device ${id}` }];
  return [200, events === undefined ? infoOf(device) : { events: eventsOf(device) }];
}

function serve(request: IncomingMessage, response: ServerResponse, next: Connect.NextFunction): void {
  const url = new URL(request.url ?? "/", "http://hub");
  if (url.pathname.startsWith("/__dev/")) {
    if (url.pathname === "/__dev/down") {
      downUntil = Date.now() + Number(url.searchParams.get("seconds") ?? 10) * 1000;
      for (const socket of sockets) socket.close(1012);
    } else if (url.pathname === "/__dev/conflate")
      conflate = Number(url.searchParams.get("readings") ?? 1204);
    response.end("ok");
    return;
  }
  if (!url.pathname.startsWith("/api/")) {
    next();
    return;
  }
  const scenario = scenarioOf(request);
  let [status, body] = answer(url.pathname, url.searchParams, scenario);
  if (Date.now() < downUntil) [status, body] = [503, { detail: "down for development" }];
  else if (scenario === "signed-out")
    [status, body] = [401, { title: "Not authenticated", detail: "sign in" }];
  response.writeHead(status, {
    "content-type": status < 400 ? "application/json" : "application/problem+json",
  });
  response.end(status === 204 ? undefined : JSON.stringify(body));
}

function upgrade(request: IncomingMessage, duplex: Duplex, head: Buffer): void {
  if (request.url !== "/v1/live") return;
  if (Date.now() < downUntil) {
    duplex.destroy();
    return;
  }
  const server = new WebSocketServer({ noServer: true, handleProtocols: () => SUBPROTOCOL });
  server.handleUpgrade(request, duplex, head, (socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    new Viewer(socket, fleetOf(scenarioOf(request)));
  });
}

/** For `vite` and `vite preview`; the build has nothing of it. */
export function developmentHub(): Plugin {
  return {
    name: "development-hub",
    configureServer(server) {
      server.httpServer?.on("upgrade", upgrade);
      server.middlewares.use(serve);
    },
    configurePreviewServer(server) {
      server.httpServer.on("upgrade", upgrade);
      server.middlewares.use(serve);
    },
  };
}

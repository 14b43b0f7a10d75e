/** The live protocol for one page. */

import type { WebSocket } from "ws";
import { encodeUpdate, Kind } from "../src/wire/frames";
import { decodeViewerMessage, encodeMessage, type LiveMessage, type Subscribe } from "../src/wire/live";
import { JOURNAL, readings, secondNow, stateOf } from "./generated";
import type { DevDevice, DevMetric } from "./scenario";

/** Number of conflated readings in the next live update; set by a request, used once. */
export const conflation = { readings: 0 };

const matches = (patterns: string[], name: string) =>
  patterns.some((pattern) =>
    new RegExp(
      `^${pattern
        .split("*")
        .map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"))
        .join(".*")}$`,
    ).test(name),
  );

export class Viewer {
  private readonly socket: WebSocket;
  private readonly fleet: DevDevice[];
  private readonly subscriptions = new Map<
    number,
    { request: Subscribe; sent: number; pairs: [DevDevice, DevMetric][] }
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

  private subscribe(request: Subscribe): void {
    const pairs = this.fleet
      .filter(({ device }) => matches(request.devices, device))
      .flatMap((device) =>
        device.metrics
          .filter(({ metric }) => matches(request.metrics, metric))
          .map((metric): [DevDevice, DevMetric] => [device, metric]),
      );
    const now = secondNow();
    this.send({
      type: "schema",
      schema: request.id,
      first: 0,
      series: pairs.map(([{ device }, { metric, type, unit, description }]) => ({
        device,
        metric,
        type,
        unit,
        description,
      })),
    });
    const resumed = request.cursor?.journal === JOURNAL ? request.cursor.offset - 1_000_000 : null;
    this.send({
      type: "subscribed",
      id: request.id,
      schema: request.id,
      start: resumed === null ? "history" : "cursor",
    });
    const entry = { request, sent: now, pairs };
    const from = resumed === null ? now - Math.floor((request.history?.span_ms ?? 0) / 1000) : resumed + 1;
    if (resumed !== null || request.history != null)
      this.update(entry, resumed === null ? Kind.HISTORY : Kind.MISSED, from, now, request.history?.points);
    this.send({ type: "caught_up", id: request.id, offset: now + 1_000_000 });
    this.subscriptions.set(request.id, entry);
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
    { request, pairs }: { request: Subscribe; pairs: [DevDevice, DevMetric][] },
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
    const conflated = kind === Kind.LIVE ? conflation.readings : 0;
    if (kind === Kind.LIVE) conflation.readings = 0;
    this.socket.send(
      encodeUpdate({ kind, schema: request.id, subscription: request.id, conflated, offset, numbers, texts }),
    );
  }
}

import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { WebSocket as NodeSocket, WebSocketServer } from "ws";
import type { Cause, Probe } from "../../src/connection/diagnosis";
import {
  type ConnectionStatus,
  FIRST_CEILING_MS,
  LiveConnection,
  MAX_CEILING_MS,
  reconnectDelay,
  type SubscriptionListener,
} from "../../src/connection/live_connection";
import { BANNER_AFTER_MS, connectionText, offlineDuration } from "../../src/ui/status_text";
import { encodeUpdate, Kind } from "../../src/wire/frames";
import {
  decodeViewerMessage,
  encodeMessage,
  type LiveMessage,
  type Start,
  SUBPROTOCOL,
  type Subscribe,
  type ViewerMessage,
} from "../../src/wire/live";

describe("reconnectDelay", () => {
  it("is between zero and a ceiling that doubles up to a limit", () => {
    expect(reconnectDelay(0, 0)).toBe(0);
    expect(reconnectDelay(0, 1)).toBe(FIRST_CEILING_MS);
    expect(reconnectDelay(2, 1)).toBe(4 * FIRST_CEILING_MS);
    expect(reconnectDelay(1000, 1)).toBe(MAX_CEILING_MS);
  });
});

/** Replacement for the browser's WebSocket in Node 20, which has none. A failed attempt only emits a close. */
class PageSocket extends NodeSocket {
  constructor(url: string, subprotocol: string) {
    super(url, subprotocol);
    this.on("error", () => {});
  }
}
globalThis.WebSocket ??= PageSocket as unknown as typeof globalThis.WebSocket;

/** Queue of values and waiters: each value resolves one waiter, in order. */
class Line<T> {
  private readonly values: T[] = [];
  private readonly waiting: ((value: T) => void)[] = [];

  put(value: T): void {
    const next = this.waiting.shift();
    if (next !== undefined) next(value);
    else this.values.push(value);
  }

  take(): Promise<T> {
    if (this.values.length > 0) return Promise.resolve(this.values.shift() as T);
    return new Promise((resolve) => this.waiting.push(resolve));
  }
}

/** Hub side of one connection, controlled by the test. */
class Caller {
  readonly closed: Promise<number>;
  private readonly messages = new Line<ViewerMessage>();
  private readonly socket: NodeSocket;

  constructor(socket: NodeSocket) {
    this.socket = socket;
    socket.on("message", (frame) => this.messages.put(decodeViewerMessage(String(frame))));
    this.closed = new Promise((resolve) => socket.on("close", resolve));
  }

  say(message: LiveMessage): void {
    this.socket.send(encodeMessage(message));
  }

  welcome(journal: string): void {
    this.say({ type: "welcome", hub: "h", version: "1", journal, offset: 0, time: 1, role: "viewer" });
  }

  /** Answer a subscription up to `caught_up` at this offset. */
  serve(id: number, start: Start, offset: number): void {
    const series = [{ device: "d", metric: "t", type: "float", unit: "" } as const];
    this.say({ type: "schema", schema: 1, first: 0, series: [...series] });
    this.say({ type: "subscribed", id, schema: 1, start });
    this.say({ type: "caught_up", id, offset });
  }

  reading(offset: number): void {
    const numbers = [{ series: 0, times_ms: Float64Array.of(offset), values: Float64Array.of(offset) }];
    const head = { kind: Kind.LIVE, schema: 1, subscription: 0, conflated: 0, offset };
    this.socket.send(encodeUpdate({ ...head, numbers, texts: [] }));
  }

  async subscribe(): Promise<Subscribe> {
    for (;;) {
      const message = await this.messages.take();
      if (message.type === "subscribe") return message;
    }
  }

  breakOff(): void {
    this.socket.terminate();
  }

  close(code: number): void {
    this.socket.close(code);
  }
}

class Server {
  readonly callers = new Line<Caller>();
  port = 0;
  private server: WebSocketServer | null = null;

  async start(): Promise<void> {
    const server = new WebSocketServer({
      host: "127.0.0.1",
      port: this.port,
      handleProtocols: () => SUBPROTOCOL,
    });
    this.server = server;
    server.on("connection", (socket) => this.callers.put(new Caller(socket)));
    await new Promise((resolve) => server.on("listening", resolve));
    this.port = (server.address() as AddressInfo).port;
  }

  async stop(): Promise<void> {
    for (const socket of this.server?.clients ?? []) socket.terminate();
    await new Promise((resolve) => (this.server === null ? resolve(null) : this.server.close(resolve)));
    this.server = null;
  }
}

/** Record the calls of a subscription's listener in order. */
function recordingListener(): { listener: SubscriptionListener; events: Line<string> } {
  const events = new Line<string>();
  const listener: SubscriptionListener = {
    started: (start) => events.put(`started from ${start}`),
    reset: (reason) => events.put(`reset: ${reason}`),
    update: (update) => events.put(`update ${update.offset}`),
    caughtUp: () => events.put("caught up"),
    failed: (error) => events.put(`failed: ${error.code}`),
  };
  return { listener, events };
}

const request = {
  devices: ["d"],
  metrics: ["t"],
  policy: "every",
  period_ms: 100,
  history: { span_ms: 60_000, points: 100 },
} as const;

describe("LiveConnection", () => {
  const server = new Server();
  let connection: LiveConnection;
  /** Fraction of the maximum delay for each attempt. */
  let part = 0;
  /** Answer to each check over HTTP. */
  let probe: Probe = { kind: "silent" };

  const reached = <State extends ConnectionStatus["state"]>(
    state: State,
  ): Promise<ConnectionStatus & { state: State }> =>
    new Promise((resolve) => {
      const { status } = connection;
      const stop = status.subscribe((now) => {
        if (now.state !== state) return;
        queueMicrotask(() => stop());
        resolve(now as ConnectionStatus & { state: State });
      });
    });

  beforeEach(async () => {
    part = 0;
    probe = { kind: "silent" };
    await server.start();
    connection = new LiveConnection(
      `ws://127.0.0.1:${server.port}/v1/live`,
      () => part,
      () => Promise.resolve(probe),
    );
    connection.open(() => {}, { receiveFleet: () => {}, receiveDevices: () => {}, receiveProgress: () => {} });
  });

  afterEach(async () => {
    connection.close();
    await server.stop();
    server.port = 0;
  });

  it("reconnects and resumes from its cursor", async () => {
    const { listener, events } = recordingListener();
    connection.subscribe({ ...request, devices: ["d"], metrics: ["t"] }, listener);
    const first = await server.callers.take();
    first.welcome("j1");
    const subscribe = await first.subscribe();
    expect(subscribe.cursor).toBeUndefined();
    first.serve(subscribe.id, "history", 7);
    first.reading(9);
    for (const event of ["started from history", "caught up", "update 9"]) expect(await events.take()).toBe(event);
    first.breakOff();

    const second = await server.callers.take();
    second.welcome("j1");
    const again = await second.subscribe();
    expect(again).toEqual({ ...subscribe, cursor: { journal: "j1", offset: 9 } });
    second.serve(again.id, "cursor", 12);
    expect(await events.take()).toBe("started from cursor");
    expect(await events.take()).toBe("caught up");
  });

  it("reports a reset and uses the new cursor", async () => {
    const { listener, events } = recordingListener();
    connection.subscribe({ ...request, devices: ["d"], metrics: ["t"] }, listener);
    const first = await server.callers.take();
    first.welcome("j1");
    const { id } = await first.subscribe();
    first.serve(id, "history", 7);
    expect(await events.take()).toBe("started from history");
    expect(await events.take()).toBe("caught up");
    first.breakOff();

    const second = await server.callers.take();
    second.welcome("j2");
    expect((await second.subscribe()).cursor).toEqual({ journal: "j1", offset: 7 });
    second.say({ type: "reset", id, reason: "other_journal" });
    second.serve(id, "history", 3);
    for (const event of ["reset: other_journal", "started from history", "caught up"])
      expect(await events.take()).toBe(event);
    second.breakOff();

    const third = await server.callers.take();
    third.welcome("j2");
    expect((await third.subscribe()).cursor).toEqual({ journal: "j2", offset: 3 });
  });

  it("does not resume a subscription that ended while it was offline", async () => {
    const end = connection.subscribe({ ...request, devices: ["gone"], metrics: ["t"] }, recordingListener().listener);
    connection.subscribe({ ...request, devices: ["kept"], metrics: ["t"] }, recordingListener().listener);
    end();
    const caller = await server.callers.take();
    caller.welcome("j1");
    expect((await caller.subscribe()).devices).toEqual(["kept"]);
  });

  it("reports the offline time across failed attempts until it reconnects", async () => {
    (await server.callers.take()).welcome("j1");
    const live = await reached("live");
    expect(connectionText(live, live.since)).toBe("Connected");
    expect(offlineDuration(live, live.since + 60_000)).toBeNull();

    part = 1;
    await server.stop();
    const waiting = await reached("waiting");
    expect(waiting.since).toBeGreaterThanOrEqual(live.since);
    expect(connectionText(waiting, waiting.retryAt - FIRST_CEILING_MS)).toBe("Reconnecting in 1 s");
    expect(connectionText(waiting, waiting.retryAt)).toBe("Reconnecting");
    // A whole number: the sum and difference of fractions of milliseconds are not exact.
    const offline = { ...waiting, since: Math.round(waiting.since) };
    expect(offlineDuration(offline, offline.since + BANNER_AFTER_MS - 1)).toBeNull();
    expect(offlineDuration(offline, offline.since + BANNER_AFTER_MS)).toBe(BANNER_AFTER_MS);

    connection.retry();
    const connecting = await reached("connecting");
    expect(connectionText(connecting, connecting.since)).toBe("Connecting");
    const later = await reached("waiting");
    expect(later.since).toBe(waiting.since);
    expect(later.retryAt - performance.now()).toBeGreaterThan(FIRST_CEILING_MS);

    await server.start();
    connection.checkNow();
    (await server.callers.take()).welcome("j1");
    expect(offlineDuration(await reached("live"), later.since + 60_000)).toBeNull();
  });

  it("does not reconnect after sign-out", async () => {
    (await server.callers.take()).close(4401);
    const out = await reached("signed_out");
    expect(connectionText(out, 0)).toBe("Signed out");
    expect(offlineDuration(out, 60_000)).toBeNull();
    connection.retry();
    expect(connection.status.peek().state).toBe("signed_out");
  });

  const caused = (): Promise<Cause> =>
    new Promise((resolve) => {
      const stop = connection.cause.subscribe((now) => {
        if (now === null) return;
        queueMicrotask(() => stop());
        resolve(now);
      });
    });

  it("shows the cause of a refusal until it connects, and reconnects by itself", async () => {
    (await server.callers.take()).welcome("j1");
    await reached("live");
    probe = { kind: "checked", check: { code: "upgrade_lost", reason: "lost", remedy: "pass it" } };
    await server.stop();
    expect(await caused()).toEqual({ reason: "lost", remedy: "pass it" });
    probe = { kind: "silent" };
    await server.start();
    (await server.callers.take()).welcome("j1");
    await reached("live");
    expect(connection.cause.peek()).toBeNull();
  });

  it("asks for the cause while an open connection gets no welcome, and after it is not allowed", async () => {
    probe = { kind: "checked", check: { code: "origin_not_allowed", reason: "foreign", remedy: "allow it" } };
    const caller = await server.callers.take();
    expect(await caused()).toEqual({ reason: "foreign", remedy: "allow it" });
    part = 1;
    caller.close(4403);
    await reached("waiting");
    expect(connection.cause.peek()).toEqual({ reason: "foreign", remedy: "allow it" });
  });

  it("signs out when the check finds no session", async () => {
    probe = { kind: "checked", check: { code: "not_authenticated", reason: "none", remedy: "sign in" } };
    const caller = await server.callers.take();
    await reached("signed_out");
    await caller.closed;
    expect(connection.cause.peek()).toBeNull();
  });

  it("reports a blocked path when attempts fail that the hub would accept", async () => {
    probe = { kind: "checked", check: { code: "ok", reason: "", remedy: "" } };
    await server.stop();
    expect((await caused()).reason).toContain("WebSockets do not");
  });

  it("closes a connection that violates the protocol and opens a new one", async () => {
    const caller = await server.callers.take();
    caller.welcome("j1");
    caller.say({ type: "caught_up", id: 1, offset: 1 });
    caller.welcome("j1");
    expect(await caller.closed).toBe(4400);
    (await server.callers.take()).welcome("j1");
    await reached("live");
  });
});

/**
 * Live connection of the page: reconnects automatically, resumes every subscription from its cursor, and passes
 * each frame to its listeners.
 */

import { type Signal, signal } from "@preact/signals";
import { fullJitter } from "../wire/backoff";
import { decodeUpdate, type Update } from "../wire/frames";
import {
  type DeviceState,
  decodeLiveMessage,
  encodeMessage,
  type FleetProgress,
  type LiveError,
  type LiveMessage,
  type ResetReason,
  type Series,
  type Start,
  SUBPROTOCOL,
  type Subscribe,
  type ViewerMessage,
  type Welcome,
} from "../wire/live";
import { ViewerSession } from "../wire/live_session";
import { Close, WireError } from "../wire/protocol";
import { type Cause, diagnose, type Probe } from "./diagnosis";

export const FIRST_CEILING_MS = 500;
export const MAX_CEILING_MS = 15_000;

/** Return the delay before a reconnect attempt, in whole milliseconds; `fullJitter` describes the arguments. */
export function reconnectDelay(attempt: number, random: number): number {
  return Math.round(fullJitter(attempt, FIRST_CEILING_MS, MAX_CEILING_MS, random));
}

/** Interval of pings. Browsers do not expose the pings of the WebSocket protocol. */
const PING_EVERY_MS = 10_000;
/** Without any frame for this time after a ping, the connection is considered lost. */
const PONG_WITHIN_MS = 8_000;

/** Without a welcome for this time after the upgrade, the cause is determined: the hub waits 5 s for a token. */
const WELCOME_WITHIN_MS = 1500;

/** Times are those of `performance.now()`. */
export type ConnectionStatus =
  | { state: "connecting"; since: number }
  | { state: "live"; since: number }
  | { state: "waiting"; since: number; retryAt: number }
  | { state: "signed_out" };

export interface SubscriptionListener {
  /** Data follow. Unless they start at the cursor, previous data are void. */
  started(start: Start): void;
  /** The hub cannot serve the cursor: previous data are void. */
  reset(reason: ResetReason): void;
  update(update: Update, series: Series[]): void;
  /** The description of the subscribed series has changed: there are more, or one has another name, type or unit. */
  described?(series: Series[]): void;
  /** The catch-up is complete; later updates are live. */
  caughtUp(): void;
  failed(error: LiveError): void;
}

/** Source of subscriptions to series. */
export type Subscriber = Pick<LiveConnection, "subscribe">;

interface FleetListener {
  receiveFleet(devices: DeviceState[]): void;
  receiveDevices(states: DeviceState[]): void;
  receiveProgress(progress: FleetProgress): void;
}

type Timer = ReturnType<typeof setTimeout> | undefined;

export class LiveConnection {
  readonly status: Signal<ConnectionStatus> = signal({ state: "connecting", since: 0 });
  /** Why the hub refuses the connection; null while it is live, or if the hub is only unreachable. */
  readonly cause: Signal<Cause | null> = signal(null);
  private readonly session = new ViewerSession();
  private readonly listeners = new Map<number, SubscriptionListener>();
  private readonly url: string;
  private fleetListener: FleetListener | null = null;
  private onWelcome: ((welcome: Welcome) => void) | null = null;
  private socket: WebSocket | null = null;
  private nextId = 1;
  private attempt = 0;
  /** When the connection was lost; shown as "offline since". */
  private lostAt = 0;
  private retryTimer: Timer;
  private pingTimer: Timer;
  private pongTimer: Timer;
  private welcomeTimer: Timer;
  /** Failed attempts in a row that the hub would have accepted. */
  private accepted = 0;
  private checking = false;
  private readonly random: () => number;
  private readonly check: () => Promise<Probe>;

  /**
   * `random` returns numbers from 0 to 1 for the jitter of the reconnect delay. `check` asks the hub over HTTP what its
   * WebSocket endpoint would answer; it never rejects.
   */
  constructor(
    url: string,
    random: () => number = Math.random,
    check: () => Promise<Probe> = () => Promise.resolve({ kind: "silent" }),
  ) {
    this.url = url;
    this.random = random;
    this.check = check;
  }

  /** Connect and stay connected until `close`. */
  open(onWelcome: (welcome: Welcome) => void, fleetListener: FleetListener): void {
    this.onWelcome = onWelcome;
    this.fleetListener = fleetListener;
    this.lostAt = performance.now();
    this.connect();
  }

  close(): void {
    this.fleetListener = null;
    this.disconnect(Close.NORMAL);
    clearTimeout(this.retryTimer);
  }

  /** Subscribe to series. The returned function ends the subscription. */
  subscribe(request: Omit<Subscribe, "type" | "id">, listener: SubscriptionListener): () => void {
    const message: Subscribe = { type: "subscribe", id: this.nextId++, ...request };
    this.session.subscribe(message);
    this.listeners.set(message.id, listener);
    if (this.session.state === "open") this.send(message);
    return () => {
      if (!this.listeners.delete(message.id)) return;
      const unsubscribe = this.session.unsubscribe(message.id);
      if (unsubscribe !== null) this.send(unsubscribe);
    };
  }

  /** Reconnect now instead of after the delay. */
  retry(): void {
    if (this.status.peek().state !== "waiting") return;
    clearTimeout(this.retryTimer);
    this.connect();
  }

  /** Check the connection immediately: the page became visible or the network returned. */
  checkNow(): void {
    if (this.session.state === "open") this.ping();
    else this.retry();
  }

  private connect(): void {
    this.session.reconnect();
    this.status.value = { state: "connecting", since: this.lostAt };
    const socket = new WebSocket(this.url, SUBPROTOCOL);
    this.socket = socket;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      if (socket === this.socket) this.welcomeTimer = setTimeout(() => void this.findCause(), WELCOME_WITHIN_MS);
    };
    socket.onclose = ({ code }) => this.handleClose(socket, code);
    socket.onmessage = ({ data }: MessageEvent<string | ArrayBuffer>) => {
      if (socket === this.socket) this.receiveFrame(data);
    };
  }

  /** Close the connection without waiting for the peer: a browser reports a lost connection only after a minute. */
  private disconnect(code: number): void {
    this.socket?.close(code);
    this.handleClose(this.socket, code);
  }

  private handleClose(socket: WebSocket | null, code: number): void {
    if (socket === null || socket !== this.socket) return;
    clearTimeout(this.pingTimer);
    clearTimeout(this.pongTimer);
    clearTimeout(this.welcomeTimer);
    this.socket = null;
    this.session.state = "closed";
    if (this.status.peek().state === "live") this.lostAt = performance.now();
    if (code === Close.NOT_AUTHENTICATED) {
      this.signOut();
      return;
    }
    void this.findCause();
    const wait = reconnectDelay(this.attempt++, this.random());
    this.status.value = { state: "waiting", since: this.lostAt, retryAt: performance.now() + wait };
    this.retryTimer = setTimeout(() => this.connect(), wait);
  }

  private signOut(): void {
    this.cause.value = null;
    this.status.value = { state: "signed_out" };
  }

  /** Determine why there is no live connection. At most one check runs at a time. */
  private async findCause(): Promise<void> {
    if (this.checking) return;
    this.checking = true;
    const probe = await this.check();
    this.checking = false;
    const { state } = this.status.peek();
    if (state === "live" || state === "signed_out" || this.fleetListener === null) return;
    // A connection that waits for its welcome did reach the hub.
    if (probe.kind === "checked" && probe.check.code === "ok" && this.socket === null) this.accepted++;
    const diagnosis = diagnose(probe, this.accepted);
    this.cause.value = diagnosis.kind === "refused" ? diagnosis.cause : null;
    if (diagnosis.kind !== "signed_out") return;
    clearTimeout(this.retryTimer);
    this.socket?.close(Close.NORMAL);
    this.socket = null;
    this.signOut();
  }

  /** Process a frame. An invalid one closes the connection; the next connection starts again. */
  private receiveFrame(frame: string | ArrayBuffer): void {
    clearTimeout(this.pongTimer);
    try {
      if (typeof frame === "string") this.receive(decodeLiveMessage(frame));
      else this.receiveUpdate(decodeUpdate(frame));
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      this.disconnect(Close.BAD_MESSAGE);
    }
  }

  private receive(message: LiveMessage): void {
    this.session.receive(message);
    switch (message.type) {
      case "welcome":
        this.attempt = 0;
        this.accepted = 0;
        this.cause.value = null;
        clearTimeout(this.welcomeTimer);
        this.status.value = { state: "live", since: performance.now() };
        this.onWelcome?.(message);
        if (this.fleetListener !== null) this.send({ type: "watch_fleet", progress: true, presence: true });
        for (const subscribe of this.session.openingMessages()) this.send(subscribe);
        this.schedulePing();
        break;
      case "fleet":
        this.fleetListener?.receiveFleet(message.devices);
        break;
      case "devices":
        this.fleetListener?.receiveDevices(message.devices);
        break;
      case "progress":
        this.fleetListener?.receiveProgress(message);
        break;
      case "schema":
        for (const [id, { schema }] of this.session.subscriptions)
          if (schema === message.schema)
            this.listeners.get(id)?.described?.(this.session.schemas.get(message.schema) ?? []);
        break;
      case "subscribed":
        this.listeners.get(message.id)?.started(message.start);
        break;
      case "reset":
        this.listeners.get(message.id)?.reset(message.reason);
        break;
      case "caught_up":
        this.listeners.get(message.id)?.caughtUp();
        break;
      case "error":
        if (message.id != null) {
          this.listeners.get(message.id)?.failed(message);
          if (!this.session.subscriptions.has(message.id)) this.listeners.delete(message.id);
        }
        break;
    }
  }

  private receiveUpdate(update: Update): void {
    const series = this.session.schemas.get(update.schema) ?? [];
    for (const id of this.session.receiveUpdate(update)) this.listeners.get(id)?.update(update, series);
  }

  private schedulePing(): void {
    clearTimeout(this.pingTimer);
    this.pingTimer = setTimeout(() => this.ping(), PING_EVERY_MS);
  }

  private ping(): void {
    this.send({ type: "ping", time_ms: Date.now() });
    clearTimeout(this.pongTimer);
    this.pongTimer = setTimeout(() => this.disconnect(Close.NORMAL), PONG_WITHIN_MS);
    this.schedulePing();
  }

  private send(message: ViewerMessage): void {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(encodeMessage(message));
  }
}

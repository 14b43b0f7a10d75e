/**
 * The page's one conversation with the hub: reconnects by itself, asks for every subscription again with its cursor, and
 * gives each frame to those it is for. What they do with it is not known here.
 */

import { type Signal, signal } from "@preact/signals";
import { Close, WireError } from "../wire/errors";
import { decodeUpdate, type Update } from "../wire/frames";
import {
  type DeviceState,
  decodeLiveMessage,
  encodeMessage,
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
import { backoff } from "./backoff";
import { openSocket, type Socket } from "./socket";

/** A ping this often; browsers do not let a page see the protocol's own. */
export const PING_EVERY_MS = 10_000;
/** Nothing at all for this long after a ping: the connection is gone, whatever the socket says. */
export const PONG_WITHIN_MS = 8_000;

/** Times are those of `performance.now()`. */
export type Status =
  | { state: "connecting"; since: number }
  | { state: "live"; since: number }
  | { state: "waiting"; since: number; retryAt: number }
  | { state: "signed_out" };

export interface SubscriptionListener {
  /** Data come now; unless they start at the cursor, all that is held is void. */
  started(start: Start): void;
  /** The cursor could not be served: all that is held is void. */
  reset(reason: ResetReason): void;
  update(update: Update, series: Series[]): void;
  /** All up to now has been received; from here on it is live. */
  caughtUp(): void;
  failed(error: LiveError): void;
}

/** Who gives series to those that ask for them. */
export interface Subscriber {
  subscribe(asked: Omit<Subscribe, "type" | "id">, listener: SubscriptionListener): () => void;
}

export interface FleetListener {
  fleet(devices: DeviceState[]): void;
  device(state: DeviceState): void;
}

type Timer = ReturnType<typeof setTimeout> | undefined;

export class LiveConnection implements Subscriber {
  readonly status: Signal<Status> = signal({ state: "connecting", since: 0 });
  private readonly session = new ViewerSession();
  private readonly listeners = new Map<number, SubscriptionListener>();
  private readonly url: string;
  private fleetListener: FleetListener | null = null;
  private welcomed: ((welcome: Welcome) => void) | null = null;
  private socket: Socket | null = null;
  private nextId = 1;
  private attempt = 0;
  /** When the page was last live; the time that "offline since" tells. */
  private lostAt = 0;
  private retryTimer: Timer;
  private pingTimer: Timer;
  private pongTimer: Timer;
  private readonly random: () => number;

  /** `random` gives numbers from 0 to 1: which part of its longest wait each attempt waits. */
  constructor(url: string, random: () => number = Math.random) {
    this.url = url;
    this.random = random;
  }

  /** Connects and stays connected until `close`. */
  open(welcomed: (welcome: Welcome) => void, fleet: FleetListener): void {
    this.welcomed = welcomed;
    this.fleetListener = fleet;
    this.lostAt = performance.now();
    this.connect();
  }

  close(): void {
    this.fleetListener = null;
    this.socket?.close(Close.NORMAL);
    clearTimeout(this.retryTimer);
  }

  /** Asks for series; the listener hears of them until the returned function is called. */
  subscribe(asked: Omit<Subscribe, "type" | "id">, listener: SubscriptionListener): () => void {
    const message: Subscribe = { type: "subscribe", id: this.nextId++, ...asked };
    this.session.subscribe(message);
    this.listeners.set(message.id, listener);
    if (this.session.state === "open") this.send(message);
    return () => {
      if (!this.listeners.delete(message.id)) return;
      const ending = this.session.unsubscribe(message.id);
      if (ending !== null) this.send(ending);
    };
  }

  /** Tries again now instead of at the end of the wait. */
  retry(): void {
    if (this.status.peek().state !== "waiting") return;
    clearTimeout(this.retryTimer);
    this.connect();
  }

  /** Somebody looks again, or the network is back: finds out at once whether the connection holds. */
  wake(): void {
    if (this.session.state === "open") this.ping();
    else this.retry();
  }

  private connect(): void {
    this.session.reconnect();
    this.status.value = { state: "connecting", since: this.lostAt };
    const socket = openSocket(this.url, SUBPROTOCOL, {
      opened: () => {},
      text: (frame) => this.guard(() => this.receive(decodeLiveMessage(frame))),
      binary: (frame) => this.guard(() => this.receiveUpdate(decodeUpdate(frame))),
      closed: (code) => this.lost(code),
    });
    this.socket = socket;
  }

  private lost(code: number): void {
    clearTimeout(this.pingTimer);
    clearTimeout(this.pongTimer);
    this.socket = null;
    this.session.state = "closed";
    const status = this.status.peek();
    if (status.state === "live") this.lostAt = performance.now();
    if (code === Close.NOT_AUTHENTICATED || code === Close.NOT_ALLOWED) {
      this.status.value = { state: "signed_out" };
      return;
    }
    const wait = backoff(this.attempt++, this.random());
    this.status.value = { state: "waiting", since: this.lostAt, retryAt: performance.now() + wait };
    this.retryTimer = setTimeout(() => this.connect(), wait);
  }

  /** A message that a correct hub does not send ends the connection; the next one begins anew. */
  private guard(work: () => void): void {
    clearTimeout(this.pongTimer);
    try {
      work();
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      this.socket?.close(Close.BAD_MESSAGE);
    }
  }

  private receive(message: LiveMessage): void {
    this.session.receive(message);
    switch (message.type) {
      case "welcome":
        this.attempt = 0;
        this.status.value = { state: "live", since: performance.now() };
        this.welcomed?.(message);
        if (this.fleetListener !== null) this.send({ type: "watch_fleet" });
        for (const subscribe of this.session.openingMessages()) this.send(subscribe);
        this.schedulePing();
        break;
      case "fleet":
        this.fleetListener?.fleet(message.devices);
        break;
      case "device":
        this.fleetListener?.device(message);
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
      default:
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
    this.pongTimer = setTimeout(() => this.socket?.close(Close.NORMAL), PONG_WITHIN_MS);
    this.schedulePing();
  }

  private send(message: ViewerMessage): void {
    this.socket?.send(encodeMessage(message));
  }
}

/** Connection of a board's spool to the hub: connects, sends what the window allows, and reconnects with full jitter. */

import { type Signal, signal } from "@preact/signals";
import {
  type AgentMessage,
  decodeHubMessage,
  encodeAgentMessage,
  type HubMessage,
  type Metric,
  numbered,
  REFUSED_SUBPROTOCOLS,
  type Reject,
  type Source,
  STATUS_SUBPROTOCOLS,
  SUBPROTOCOLS,
} from "../wire/device";
import { AgentSession } from "../wire/device_session";
import { WireError } from "../wire/protocol";
import type { BoardSpool, NumberedEntry } from "./board_spool";
import { delayBefore, type Ending, FIRST_DELAY_MS, isFinal, needsPerson, RefusedBatchSearch } from "./reconnect";
import { helloSeq, nextSeq } from "./spool";

/** Longest time from the start of an attempt to the welcome. */
const WELCOME_WITHIN_MS = 10_000;
/**
 * Longest time without any message while batches wait for their acknowledgement. A browser reports a lost network only
 * after minutes, and does not let a page send pings.
 */
const ANSWER_WITHIN_MS = 20_000;
/** Time between two checks of the connection, and between two reports of the status. */
const CHECK_EVERY_MS = 1000;
/** Characters of the definitions in one message; more are sent in several messages. */
const DECLARE_LENGTH = 64 * 1024;
/** Least bound of the first delay, so that agents do not flood a hub that asks for no delay. */
const MIN_FIRST_DELAY_MS = 100;
const AGENT_NAME = "telemetry-hub-page";
const MAX_REASON = 256;

/** State of the connection. Times are those of `performance.now()`. */
export type UplinkStatus =
  | { state: "connecting" | "online" | "closed" }
  | { state: "waiting"; reason: string; retryAt: number; needsPerson: boolean }
  | { state: "stopped"; reason: string };

/** Spool whose batches are sent; `BoardSpool` describes its methods. */
export type UplinkSpool = Pick<
  BoardSpool,
  "state" | "metrics" | "entriesAfter" | "acknowledge" | "confirm" | "replace" | "beginEpoch"
>;

/** Facts about a board that its uplink sends. */
export interface UplinkBoard {
  spool: UplinkSpool;
  device: string;
  token: () => string;
  source: () => Source;
  nowNs: () => bigint;
  onReject: (reject: Reject) => void;
}

type Timer = ReturnType<typeof setTimeout> | undefined;

export class Uplink {
  readonly status: Signal<UplinkStatus> = signal({ state: "closed" });
  private readonly url: string;
  private readonly board: UplinkBoard;
  private readonly random: () => number;
  private readonly search = new RefusedBatchSearch();
  private socket: WebSocket | null = null;
  private session = new AgentSession(1);
  private declared = new Map<string, string>();
  private error: Ending | null = null;
  private attempt = 0;
  private first_ms = FIRST_DELAY_MS;
  private isSending = false;
  private heardAt = 0;
  private reported = "";
  private retryTimer: Timer;
  private welcomeTimer: Timer;
  private checkTimer: Timer;

  /** `random` returns numbers from 0 to 1 for the jitter of the reconnect delay. */
  constructor(url: string, board: UplinkBoard, random: () => number = Math.random) {
    this.url = url;
    this.board = board;
    this.random = random;
  }

  /** Connect and stay connected until `close`. */
  open(): void {
    if (this.status.peek().state !== "closed") return;
    this.attempt = 0;
    this.connect();
  }

  close(): void {
    this.end(null);
    this.status.value = { state: "closed" };
  }

  /** Connect now instead of after the delay. */
  retry(): void {
    const { state } = this.status.peek();
    if (state === "waiting" || state === "stopped") this.connect();
  }

  /** Send what is new in the spool. */
  wake(): void {
    void this.send();
  }

  private connect(): void {
    clearTimeout(this.retryTimer);
    this.status.value = { state: "connecting" };
    const { spool } = this.board;
    this.session = new AgentSession(helloSeq(spool.state));
    this.declared = new Map();
    this.error = null;
    this.reported = "";
    const socket = new WebSocket(this.url, SUBPROTOCOLS);
    this.socket = socket;
    this.welcomeTimer = setTimeout(() => this.lose("the hub did not answer the hello"), WELCOME_WITHIN_MS);
    socket.onopen = () => {
      if (socket === this.socket) this.greet();
    };
    socket.onclose = ({ code }) => {
      if (socket === this.socket) this.handleEnd(code);
    };
    socket.onmessage = ({ data }: MessageEvent<unknown>) => {
      if (socket === this.socket) this.receiveFrame(data);
    };
  }

  private greet(): void {
    const { device, spool, token, nowNs } = this.board;
    const { epoch } = spool.state;
    const hello = {
      type: "hello",
      device,
      epoch,
      next_seq: helloSeq(spool.state),
      durable: true,
      time: nowNs(),
    } as const;
    const [metrics] = this.undeclared();
    this.transmit({ ...hello, metrics, agent: AGENT_NAME, token: token() });
  }

  private receiveFrame(data: unknown): void {
    this.heardAt = performance.now();
    try {
      if (typeof data !== "string") throw new WireError("wrong_frame", "a binary frame");
      const message = decodeHubMessage(data);
      this.session.receive(message);
      this.receive(message);
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      this.error = { reason: error.message, close: 1006, error: error.code, retry_ms: null };
      this.lose(error.message);
    }
  }

  private receive(message: HubMessage): void {
    const { spool, nowNs } = this.board;
    switch (message.type) {
      case "welcome":
        clearTimeout(this.welcomeTimer);
        this.status.value = { state: "online" };
        this.first_ms = Math.max(MIN_FIRST_DELAY_MS, this.session.retry_ms);
        spool.confirm();
        spool.acknowledge(message.acked);
        this.checkTimer = setInterval(() => this.check(), CHECK_EVERY_MS);
        this.report();
        void this.send();
        break;
      case "ack":
        this.attempt = 0;
        spool.acknowledge(this.session.acked);
        void this.send();
        break;
      case "reject":
        this.board.onReject(message);
        break;
      case "time_probe":
        this.transmit({ type: "time_reply", hub_time: message.hub_time, device_time: nowNs() });
        break;
      case "error": {
        const reason = `${message.message} (${message.code})`;
        this.error = { reason, close: 1006, error: message.code, retry_ms: message.retry_ms ?? null };
        break;
      }
    }
  }

  /** Send entries as far as the window allows. One call at a time: each reads the next number again. */
  private async send(): Promise<void> {
    if (this.isSending) return;
    this.isSending = true;
    try {
      for (let isMore = true; isMore; ) isMore = await this.sendSome();
    } finally {
      this.isSending = false;
    }
  }

  /** Send the next entries; return whether there may be more. */
  private async sendSome(): Promise<boolean> {
    const { session, board } = this;
    const isAlone = this.search.isSearching(session.acked);
    const room = isAlone ? Number(session.sent === session.acked) : session.room;
    if (session.state !== "open" || room < 1 || nextSeq(board.spool.state) - 1 <= session.sent) return false;
    const entries = await board.spool.entriesAfter(session.sent, room);
    if (session !== this.session) return true;
    let sent = 0;
    // Silence counts from the first batch that waits for an answer.
    if (session.sent === session.acked) this.heardAt = performance.now();
    for (const entry of entries) {
      if (session.room < 1 || entry.first !== session.sent + 1 || session.state !== "open") break;
      if (this.isTooLarge(entry)) {
        await board.spool.replace(entry.first, `larger than the ${session.maxBatchBytes} bytes that the hub accepts`);
        return true;
      }
      for (const metrics of this.undeclared()) this.transmit({ type: "declare", metrics });
      session.send(entry.first, entry.last);
      this.transmitEntry(entry);
      sent++;
    }
    return sent > 0 && !isAlone;
  }

  private isTooLarge({ kind, body, first }: NumberedEntry): boolean {
    if (kind === "gap") return false;
    const frame = numbered(kind, first, body);
    const limit = this.session.maxBatchBytes;
    return frame.length * 3 > limit && new TextEncoder().encode(frame).length > limit;
  }

  private transmitEntry({ kind, first, last, body }: NumberedEntry): void {
    if (this.socket === null) return;
    if (kind === "gap") this.transmit({ type: "gap", from: first, to: last, reason: body.slice(0, MAX_REASON) });
    else if (kind === "refused" && !REFUSED_SUBPROTOCOLS.includes(this.socket.protocol))
      this.transmit({ type: "gap", from: first, to: last, reason: "lines and values that the board's page refused" });
    else this.socket.send(numbered(kind, first, body));
  }

  /** Return the definitions that this connection has not declared, in lists that each fit into a message. */
  private undeclared(): Metric[][] {
    const portions: Metric[][] = [];
    let length = DECLARE_LENGTH;
    for (const metric of this.board.spool.metrics) {
      const text = JSON.stringify(metric);
      if (this.declared.get(metric.name) === text) continue;
      if (length + text.length > DECLARE_LENGTH) {
        portions.push([]);
        length = 0;
      }
      portions[portions.length - 1].push(metric);
      length += text.length;
    }
    // Those of the hello are the first portion; the others follow before the first batch.
    const [now = []] = portions;
    for (const metric of this.session.state === "greeting" ? now : portions.flat())
      this.declared.set(metric.name, JSON.stringify(metric));
    return portions;
  }

  private transmit(message: AgentMessage): void {
    this.socket?.send(encodeAgentMessage(message));
  }

  /** Report the status if it changed, and end a connection on which the hub does not answer any more. */
  private check(): void {
    const { session } = this;
    if (session.sent > session.acked && performance.now() - this.heardAt > ANSWER_WITHIN_MS)
      this.lose("the hub does not answer any more");
    else this.report();
  }

  private report(): void {
    const { socket, session, board } = this;
    if (socket === null || !STATUS_SUBPROTOCOLS.includes(socket.protocol)) return;
    const { spool, source, nowNs } = board;
    const state = source();
    const next_seq = nextSeq(spool.state);
    // While the window has room, everything is sent at once, so the hub knows the newest number by itself.
    const key = JSON.stringify([state.name, state.ok, state.error, session.room < 1 ? next_seq : 0]);
    if (key === this.reported) return;
    this.reported = key;
    const known = spool.state.acked - spool.state.base;
    const acked = known > session.acked ? known : undefined;
    this.transmit({ type: "status", time: nowNs(), next_seq, sources: [state], acked });
  }

  /** End the connection without waiting for the hub. */
  private lose(reason: string): void {
    this.error ??= { reason, close: 1006, error: null, retry_ms: null };
    this.handleEnd(1006);
  }

  /** Drop the socket, and everything that belongs to its connection. */
  private end(session: AgentSession | null): void {
    const { socket } = this;
    this.socket = null;
    clearTimeout(this.retryTimer);
    clearTimeout(this.welcomeTimer);
    clearInterval(this.checkTimer);
    this.session = new AgentSession(1);
    this.session.state = "closed";
    if (session !== null) session.state = "closed";
    socket?.close();
  }

  private handleEnd(close: number): void {
    const { session } = this;
    const { sent, acked } = session;
    const ending: Ending = { reason: endText(close), error: null, retry_ms: null, ...this.error, close };
    this.end(session);
    if (ending.error === "bad_message") this.searchRefused(sent, acked);
    if (isFinal(ending)) {
      this.status.value = { state: "stopped", reason: ending.reason };
      return;
    }
    const isNewEpoch = ending.error === "rolled_back";
    const wait = delayBefore(ending, this.attempt++, this.first_ms, this.random());
    const retryAt = performance.now() + wait;
    this.status.value = { state: "waiting", reason: ending.reason, retryAt, needsPerson: needsPerson(ending) };
    const { spool } = this.board;
    const loss = `the spool was an older copy: the hub has more batches of epoch ${spool.state.epoch}`;
    const ready = isNewEpoch ? spool.beginEpoch(loss) : Promise.resolve();
    void ready.then(() => {
      if (this.status.peek().state === "waiting") this.retryTimer = setTimeout(() => this.connect(), wait);
    });
  }

  private searchRefused(sent: number, acked: number): void {
    const seq = this.search.refused(sent, acked);
    if (seq > 0) void this.board.spool.replace(seq, "the hub could not read this batch (bad_message)");
  }
}

function endText(close: number): string {
  return close === 1006 ? "the connection to the hub was lost" : `the connection to the hub was closed (${close})`;
}

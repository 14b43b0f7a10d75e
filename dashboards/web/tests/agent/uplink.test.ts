/** The uplink of a board against a real WebSocket server, with a spool in memory. */

import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { WebSocket as NodeSocket, WebSocketServer } from "ws";
import type { NumberedEntry } from "../../src/agent/board_spool";
import * as spool from "../../src/agent/spool";
import { Uplink, type UplinkSpool } from "../../src/agent/uplink";
import type { Metric } from "../../src/wire/device";

/** Replacement for the browser's WebSocket in Node 20, which has none. A failed attempt only emits a close. */
class PageSocket extends NodeSocket {
  constructor(url: string, subprotocols: string[]) {
    super(url, subprotocols);
    this.on("error", () => {});
  }
}
globalThis.WebSocket ??= PageSocket as unknown as typeof globalThis.WebSocket;

/** Spool in memory: the pure functions of the spool on disk. */
class MemorySpool implements UplinkSpool {
  state = spool.newSpool("00f1e2d3c4b5a697");
  metrics: Metric[] = [];
  private readonly bodies = new Map<number, string>();

  put(body: string, metric = "n"): void {
    if (!this.metrics.some(({ name }) => name === metric)) this.metrics = [...this.metrics, { name: metric }];
    this.adopt(spool.append(this.state, "data", `"time":[1],"values":{"${metric}":[${body}]}`, 1, 1e9));
  }

  async entriesAfter(seq: number, max: number): Promise<NumberedEntry[]> {
    return spool.entriesAfter(this.state, seq, max).map(({ position, last, kind, readings, reason }) => ({
      first: spool.seqOf(this.state, position),
      last: spool.seqOf(this.state, last),
      kind,
      readings,
      body: reason ?? this.bodies.get(position) ?? "",
    }));
  }

  acknowledge(seq: number): void {
    this.adopt(spool.acknowledge(this.state, seq));
  }

  confirm(): void {
    this.state = spool.confirm(this.state);
  }

  async replace(seq: number, reason: string): Promise<void> {
    this.adopt(spool.replace(this.state, seq, reason));
  }

  async beginEpoch(loss: string): Promise<void> {
    this.adopt(spool.beginEpoch(this.state, "ffffffffffffffff", loss));
  }

  private adopt(change: spool.SpoolChange | null): void {
    if (change === null) return;
    for (const { position, body } of change.put) this.bodies.set(position, body);
    this.state = change.state;
  }
}

/** Messages, and those that wait for one. */
class Queue<T> {
  private readonly values: T[] = [];
  private readonly waiting: ((value: T) => void)[] = [];

  put(value: T): void {
    const next = this.waiting.shift();
    if (next === undefined) this.values.push(value);
    else next(value);
  }

  take(): Promise<T> {
    const value = this.values.shift();
    return value === undefined ? new Promise((resolve) => this.waiting.push(resolve)) : Promise.resolve(value);
  }
}

type Message = Record<string, unknown> & { type: string };

/** Hub's side of one connection, controlled by the test. */
class Peer {
  private readonly messages = new Queue<Message>();
  private readonly socket: NodeSocket;

  constructor(socket: NodeSocket) {
    this.socket = socket;
    socket.on("message", (data) => this.messages.put(JSON.parse(String(data)) as Message));
  }

  /** Return the next message besides the reports of the status. */
  async next(): Promise<Message> {
    const message = await this.messages.take();
    return message.type === "status" ? this.next() : message;
  }

  /** Return the next report of the status. */
  async status(): Promise<Message> {
    const message = await this.messages.take();
    return message.type === "status" ? message : this.status();
  }

  send(message: object): void {
    this.socket.send(JSON.stringify(message));
  }

  welcome(acked: number, fields: object = {}): void {
    const bounds = { window: 2, max_batch_bytes: 262_144, retry_ms: 100 };
    this.send({ type: "welcome", hub: "h", acked, time: 0, ...bounds, ...fields });
  }

  refuse(code: string, close: number): void {
    this.send({ type: "error", code, message: "because" });
    this.socket.close(close);
  }

  close(code: number): void {
    this.socket.close(code);
  }
}

let server: WebSocketServer;
let peers: Queue<Peer>;
let store: MemorySpool;
let uplink: Uplink;

beforeEach(async () => {
  server = new WebSocketServer({ port: 0, handleProtocols: (offered) => [...offered][0] });
  peers = new Queue();
  server.on("connection", (socket) => peers.put(new Peer(socket)));
  await new Promise((resolve) => server.once("listening", resolve));
  store = new MemorySpool();
  const source = () => ({ name: "USB 2341:0043", ok: true, since: 1n });
  const board = { spool: store, device: "uno-1", token: () => "t", source, nowNs: () => 5n, onReject: () => {} };
  const { port } = server.address() as AddressInfo;
  uplink = new Uplink(`ws://127.0.0.1:${port}`, board, () => 0);
});

afterEach(() => {
  uplink.close();
  server.close();
});

/** Return when the uplink has this state. */
function reached(state: string): Promise<void> {
  return new Promise((resolve) => {
    const stop = uplink.status.subscribe((status) => {
      if (status.state === state) queueMicrotask(() => resolve(stop()));
    });
  });
}

const seqs = async (peer: Peer, count: number) => {
  const found = [];
  while (found.length < count) {
    const message = await peer.next();
    if (message.type !== "declare") found.push(message.seq ?? [message.from, message.to]);
  }
  return found;
};

describe("uplink", () => {
  it("greets, declares metrics before the batch that uses them, and sends within the window", async () => {
    store.put("1");
    uplink.open();
    const peer = await peers.take();
    expect(await peer.next()).toEqual({
      type: "hello",
      device: "uno-1",
      epoch: "00f1e2d3c4b5a697",
      next_seq: 2,
      durable: true,
      time: 5,
      metrics: [{ name: "n" }],
      agent: "telemetry-hub-page",
      token: "t",
    });
    peer.welcome(0);
    expect(await peer.status()).toMatchObject({ next_seq: 2, sources: [{ name: "USB 2341:0043", ok: true }] });
    expect(await peer.next()).toEqual({ type: "data", seq: 1, time: [1], values: { n: [1] } });
    store.put("2", "m");
    store.put("3");
    uplink.wake();
    expect(await peer.next()).toEqual({ type: "declare", metrics: [{ name: "m" }] });
    expect(await peer.next()).toMatchObject({ seq: 2 });
    // The window is full: the third batch waits for an acknowledgement.
    peer.send({ type: "time_probe", hub_time: 7 });
    expect(await peer.next()).toEqual({ type: "time_reply", hub_time: 7, device_time: 5 });
    peer.send({ type: "ack", seq: 2 });
    expect(await peer.next()).toMatchObject({ seq: 3 });
    expect(store.state.acked).toBe(2);
  });

  it("resumes behind what the hub has, after any end of the connection", async () => {
    for (let number = 1; number <= 4; number++) store.put(String(number));
    uplink.open();
    const first = await peers.take();
    first.welcome(0);
    await first.next();
    expect(await seqs(first, 2)).toEqual([1, 2]);
    first.close(1012);
    const second = await peers.take();
    second.welcome(1);
    expect((await second.next()).next_seq).toBe(5);
    expect(await seqs(second, 2)).toEqual([2, 3]);
    second.send({ type: "ack", seq: 3 });
    expect(await seqs(second, 1)).toEqual([4]);
    second.send({ type: "ack", seq: 9 });
    // A hub that acknowledges what was never sent is not trusted.
    const third = await peers.take();
    third.welcome(3);
    await third.next();
    expect(await seqs(third, 1)).toEqual([4]);
  });

  it("declares a gap for what a hub has lost and the spool does not keep, and reports that first", async () => {
    for (let number = 1; number <= 3; number++) store.put(String(number));
    store.acknowledge(2);
    uplink.open();
    const peer = await peers.take();
    await peer.next();
    peer.welcome(0);
    expect(await peer.status()).toMatchObject({ acked: 2 });
    expect(await peer.next()).toMatchObject({ type: "gap", from: 1, to: 2 });
    peer.send({ type: "ack", seq: 2 });
    expect(await seqs(peer, 1)).toEqual([3]);
  });

  it("stops when another agent takes over, and waits for a person when the token is wrong", async () => {
    uplink.open();
    const first = await peers.take();
    first.refuse("not_authenticated", 4401);
    await reached("waiting");
    expect(uplink.status.value).toMatchObject({ needsPerson: true, reason: "because (not_authenticated)" });
    uplink.retry();
    const second = await peers.take();
    second.welcome(0);
    await reached("online");
    second.refuse("superseded", 4409);
    await reached("stopped");
  });

  it("begins a new epoch when the hub has more than the spool", async () => {
    store.put("1");
    uplink.open();
    const first = await peers.take();
    first.welcome(8);
    const second = await peers.take();
    expect(await second.next()).toMatchObject({ epoch: "ffffffffffffffff", next_seq: 3 });
    second.welcome(0);
    expect(await seqs(second, 2)).toEqual([[1, 1], 2]);
  });

  it("declares the batch lost that the hub cannot read, and no other", async () => {
    for (let number = 1; number <= 3; number++) store.put(String(number));
    uplink.open();
    let acked = 0;
    const gaps = [];
    while (acked < 3) {
      const peer = await peers.take();
      await peer.next();
      peer.welcome(acked);
      for (;;) {
        const message = await peer.next();
        if (message.seq === 2) {
          peer.refuse("bad_message", 4400);
          break;
        }
        if (message.type === "gap") gaps.push(message.from);
        acked = (message.seq ?? message.to) as number;
        peer.send({ type: "ack", seq: acked });
        if (acked === 3) break;
      }
    }
    expect(gaps).toEqual([2]);
  });

  it("replaces a batch by a gap that is larger than the hub accepts", async () => {
    store.put(`"${"x".repeat(2000)}"`);
    store.put("2");
    uplink.open();
    const peer = await peers.take();
    await peer.next();
    peer.welcome(0, { max_batch_bytes: 1024 });
    expect(await peer.next()).toMatchObject({
      type: "gap",
      from: 1,
      reason: "larger than the 1024 bytes that the hub accepts",
    });
    expect(await seqs(peer, 1)).toEqual([2]);
  });
});

import { describe, expect, it } from "vitest";
import {
  acknowledge,
  append,
  beginEpoch,
  confirm,
  entriesAfter,
  helloSeq,
  newSpool,
  nextSeq,
  replace,
  type SpoolChange,
  type SpoolEntry,
  type SpoolState,
  waitingIn,
} from "../../src/agent/spool";
import type { HubMessage } from "../../src/wire/device";
import { AgentSession } from "../../src/wire/device_session";
import { Randomness } from "../randomness";

const WINDOW = 4;

/** Spool whose changes are on disk at once. */
class Disk {
  state: SpoolState = newSpool("e1");
  bodies = new Map<number, SpoolEntry>();

  write(change: SpoolChange | null): void {
    if (change === null) return;
    for (const position of change.removed) this.bodies.delete(position);
    for (const entry of change.put) this.bodies.set(entry.position, entry);
    this.state = change.state;
    // The database and the index name the same entries.
    expect([...this.bodies.keys()].sort((a, b) => a - b)).toEqual(this.state.index.map(({ position }) => position));
    expect(this.state.size_bytes).toBe(this.state.index.reduce((sum, { bytes }) => sum + bytes, 0));
  }

  /** Read the state as a page does that is opened again. */
  reopen(): void {
    this.state = { ...this.state, opened: this.state.next };
  }

  copy(): Disk {
    const disk = new Disk();
    disk.state = this.state;
    disk.bodies = new Map(this.bodies);
    return disk;
  }
}

/** Hub that checks the order of one device, and loses what it has received and not committed when it is killed. */
class HubModel {
  stored: string[] = [];
  lost = 0;
  private epochs = new Map<string, number>();
  private received = 0;
  private pending: { last: number; body: string; lost: number }[] = [];
  private epoch = "";

  greet(epoch: string, next: number): HubMessage {
    if (this.epoch !== epoch) this.kill();
    this.epoch = epoch;
    const acked = this.epochs.get(epoch) ?? 0;
    if (Math.max(acked, this.received) >= next)
      return { type: "error", code: "rolled_back", message: "the spool is an old copy" };
    this.received = Math.max(this.received, acked);
    return { type: "welcome", hub: "h", acked, window: WINDOW, max_batch_bytes: 262_144, time: 0, retry_ms: 0 };
  }

  receive(first: number, last: number, body: string, isGap: boolean): void {
    if (last <= this.received) return;
    if (first > this.received + 1) throw new Error(`expected ${this.received + 1}, got ${first}`);
    const lost = isGap ? last - this.received : 0;
    this.received = last;
    this.pending.push({ last, body: isGap ? "" : body, lost });
  }

  commit(): HubMessage | null {
    const newest = this.pending.at(-1);
    if (newest === undefined) return null;
    for (const { body, lost } of this.pending) {
      if (body !== "") this.stored.push(body);
      this.lost += lost;
    }
    this.pending = [];
    this.epochs.set(this.epoch, newest.last);
    return { type: "ack", seq: newest.last };
  }

  kill(): void {
    this.pending = [];
    this.received = this.epochs.get(this.epoch) ?? 0;
  }
}

/** A page and its hub; each step is something that can happen between them. */
class World {
  readonly hub = new HubModel();
  disk = new Disk();
  readonly sent: string[] = [];
  private session: AgentSession | null = null;
  private readonly maxBytes: number;

  constructor(maxBytes: number) {
    this.maxBytes = maxBytes;
  }

  append(): void {
    const body = `b${this.sent.length}`;
    this.sent.push(body);
    this.disk.write(append(this.disk.state, "data", body, 1, this.maxBytes));
  }

  connect(): void {
    const { state } = this.disk;
    const session = new AgentSession(helloSeq(state));
    const answer = this.hub.greet(state.epoch, helloSeq(state));
    session.receive(answer);
    if (answer.type === "error") {
      if (state.opened !== null) this.disk.write(acknowledge(state, helloSeq(state) - 1));
      this.disk.write(beginEpoch(this.disk.state, `${state.epoch}+`, "an older copy"));
      return;
    }
    this.session = session;
    this.disk.state = confirm(this.disk.state);
    this.disk.write(acknowledge(this.disk.state, session.acked));
  }

  send(count: number): void {
    const { session } = this;
    if (session === null) {
      this.connect();
      return;
    }
    const { state, bodies } = this.disk;
    for (const entry of entriesAfter(state, session.sent, Math.min(count, session.room))) {
      const [first, last] = [entry.position - state.base, entry.last - state.base];
      if (first !== session.sent + 1 || session.room < 1) return;
      session.send(first, last);
      this.hub.receive(first, last, entry.reason ?? bodies.get(entry.position)?.body ?? "", entry.kind === "gap");
    }
  }

  commit(): void {
    const ack = this.hub.commit();
    if (ack === null || this.session === null) return;
    this.session.receive(ack);
    this.disk.write(acknowledge(this.disk.state, this.session.acked));
  }

  disconnect(): void {
    this.session = null;
  }

  reload(): void {
    this.session = null;
    this.disk.reopen();
  }

  drain(): void {
    for (let turn = 0; waitingIn(this.disk.state) > 0 || turn < 3; turn++) {
      expect(turn).toBeLessThan(1000);
      this.send(WINDOW);
      this.commit();
    }
  }
}

function play(random: Randomness, world: World, steps: number): void {
  for (let step = 0; step < steps; step++) {
    const choice = random.below(12);
    if (choice < 4) world.append();
    else if (choice < 7) world.send(1 + random.below(WINDOW));
    else if (choice < 9) world.commit();
    else if (choice === 9) world.disconnect();
    else if (choice === 10) world.reload();
    else {
      world.hub.kill();
      world.disconnect();
    }
  }
}

describe("spool", () => {
  it("loses nothing, stores nothing twice and keeps the order, whatever is killed or reloaded when", () => {
    for (let seed = 0; seed < 200; seed++) {
      const world = new World(1e9);
      play(new Randomness(seed), world, 60);
      world.drain();
      expect(world.hub.stored, `seed ${seed}`).toEqual(world.sent);
      expect([world.hub.lost, world.disk.state.size_bytes, nextSeq(world.disk.state)]).toEqual([
        0,
        0,
        world.sent.length + 1,
      ]);
    }
  });

  it("declares a gap for each batch that a full spool drops, and counts none twice", () => {
    let lost = 0;
    for (let seed = 0; seed < 200; seed++) {
      const world = new World(400);
      play(new Randomness(seed), world, 80);
      expect(world.disk.state.size_bytes).toBeLessThan(600);
      world.drain();
      // A batch that was sent and dropped may be stored: its gap comes too late then.
      const kept = world.sent.filter((body) => world.hub.stored.includes(body));
      expect(world.hub.stored, `seed ${seed}`).toEqual(kept);
      expect(world.hub.lost, `seed ${seed}`).toBe(world.sent.length - kept.length);
      lost += world.hub.lost;
    }
    expect(lost).toBeGreaterThan(0);
  });

  it("begins a new epoch when the hub has more batches than a restored copy, and loses no new one", () => {
    for (let seed = 0; seed < 100; seed++) {
      const random = new Randomness(seed);
      const world = new World(1e9);
      play(random, world, 20);
      const copy = world.disk.copy();
      const before = world.sent.length;
      for (let step = 0; step < 8; step++) {
        world.append();
        world.send(2);
        world.commit();
      }
      world.disk = copy;
      world.reload();
      const restored = world.sent.length;
      for (let step = 0; step < 4; step++) world.append();
      world.drain();
      expect(world.hub.stored.slice(-4), `seed ${seed}`).toEqual(world.sent.slice(restored));
      expect(new Set(world.hub.stored).size).toBe(world.hub.stored.length);
      expect(before).toBeLessThan(restored);
    }
  });

  it("resends to a hub that lost acknowledged batches what it has, and a gap for the others", () => {
    let state = newSpool("e1");
    for (const body of ["a", "b", "c"]) ({ state } = append(state, "data", body, 1, 1e9));
    state = acknowledge(state, 2)?.state ?? state;
    expect(entriesAfter(state, 0, 10)).toMatchObject([
      { position: 1, last: 2, kind: "gap" },
      { position: 3, last: 3, kind: "data" },
    ]);
    expect(replace(state, 3, "too large")?.put).toMatchObject([{ position: 3, kind: "gap", body: "too large" }]);
    expect(replace(state, 2, "too large")).toBeNull();
  });

  it("keeps the newest batch however small the bound is, and its hello counts from the new epoch", () => {
    let { state } = append(newSpool("e1"), "data", "a", 1, 1);
    ({ state } = append({ ...state, opened: state.next }, "data", "b", 1, 1));
    expect(state.index).toMatchObject([
      { position: 1, kind: "gap" },
      { position: 2, kind: "data" },
    ]);
    const { state: begun } = beginEpoch(state, "e2", "an older copy");
    expect([nextSeq(begun), helloSeq(begun)]).toEqual([4, 4]);
  });

  it("declares batches that could not be stored with the next one that is", () => {
    const change = append(newSpool("e1"), "data", "x", 1, 1e9, { batches: 3, reason: "the disk was full" });
    expect(change.put).toMatchObject([
      { position: 1, last: 3, kind: "gap", body: "the disk was full" },
      { position: 4, last: 4, kind: "data", body: "x" },
    ]);
    expect(nextSeq(change.state)).toBe(5);
  });
});

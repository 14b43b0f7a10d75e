import { beforeEach, describe, expect, it } from "vitest";
import type { Body } from "../../src/agent/batch";
import { type BoardRecord, newBoard } from "../../src/agent/database";
import { Leftover } from "../../src/agent/leftover";
import { append, newSpool } from "../../src/agent/spool";

/** The browser's local storage, which Node 20 does not have. */
class PageStorage {
  private readonly items = new Map<string, string>();
  getItem = (key: string) => this.items.get(key) ?? null;
  setItem = (key: string, value: string) => void this.items.set(key, value);
  removeItem = (key: string) => void this.items.delete(key);
}

/** Spool whose disk may stop to write. */
class Disk {
  state = newSpool("e1");
  readonly record: BoardRecord = newBoard("uno-1", { baud: 9600, rules: {} }, {});
  readonly stored: string[] = [];
  room = 100;

  append = async (kind: Body["kind"], body: string, readings: number) => {
    if (this.room-- <= 0) throw new Error("the page was left");
    this.state = append(this.state, kind, body, readings, 1e9).state;
    this.stored.push(body);
  };
}

const body = (text: string): Body => ({ kind: "data", body: text, readings: 1 });

/** Return what an earlier page left over: these bodies, whose writes had begun. */
function leave(texts: string[], next = 1, metric = "m"): void {
  const leftover = new Leftover("uno-1");
  for (const text of texts) void leftover.during(body(text), new Promise(() => {}));
  const record = { ...new Disk().record, metrics: [{ name: metric }] };
  leftover.save("e1", next, record);
}

beforeEach(() => {
  globalThis.localStorage = new PageStorage() as unknown as Storage;
});

describe("readings of a page that was left", () => {
  it("are stored by the next page, with the metrics that belong to them", async () => {
    leave(["a", "b"]);
    const disk = new Disk();
    await new Leftover("uno-1").restore(disk);
    expect([disk.stored, disk.record.metrics]).toEqual([["a", "b"], [{ name: "m" }]]);
    await new Leftover("uno-1").restore(disk);
    expect(disk.stored).toEqual(["a", "b"]);
  });

  it("are not stored again if the browser ended some of the writes", async () => {
    leave(["a", "b", "c"]);
    const disk = new Disk();
    await disk.append("data", "a", 1);
    await disk.append("data", "b", 1);
    await new Leftover("uno-1").restore(disk);
    expect(disk.stored).toEqual(["a", "b", "c"]);
  });

  it("are stored once if the next page is left, too", async () => {
    leave(["a", "b", "c"]);
    const disk = new Disk();
    disk.room = 1;
    await expect(new Leftover("uno-1").restore(disk)).rejects.toThrow("left");
    disk.room = 9;
    await new Leftover("uno-1").restore(disk);
    expect(disk.stored).toEqual(["a", "b", "c"]);
  });

  it("belong to their spool and their device alone", async () => {
    leave(["a"]);
    const other = new Disk();
    await new Leftover("uno-2").restore(other);
    const fresh = new Disk();
    fresh.state = newSpool("e2");
    await new Leftover("uno-1").restore(fresh);
    expect([other.stored, fresh.stored]).toEqual([[], []]);
  });

  it("do not include what was stored before", async () => {
    const leftover = new Leftover("uno-1");
    await leftover.during(body("a"), Promise.resolve());
    leftover.save("e1", 2, new Disk().record);
    const disk = new Disk();
    await leftover.restore(disk);
    expect([disk.stored, leftover.count]).toEqual([[], 0]);
  });
});

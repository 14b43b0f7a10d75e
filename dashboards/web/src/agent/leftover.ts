/**
 * Readings of a board that are not in its spool when the page is left. The browser may not finish a write to its database
 * then, so they are also written to its local storage, which is written at once. Each has the position that it gets in the
 * spool: one that is there already is not stored again.
 */

import { basePath } from "../wire/base_path";
import type { Body } from "./batch";
import type { BoardSpool } from "./board_spool";
import type { BoardRecord } from "./database";

/** Characters that are kept; browsers allow 5 million. */
const MAX_LENGTH = 1_000_000;

interface Saved {
  epoch: string;
  /** Position of the first of the bodies. */
  next: number;
  bodies: Body[];
  /** The metrics and counts that belong to them. */
  board: Pick<BoardRecord, "metrics" | "counts">;
}

export class Leftover {
  private readonly key: string;
  /** Bodies whose write has begun and not ended, in order. */
  private readonly writing: Body[] = [];

  constructor(device: string) {
    this.key = `telemetry-hub.board ${basePath} ${device}`;
  }

  /** Store a body, which is left over until that has ended. */
  async during(body: Body, store: Promise<void>): Promise<void> {
    this.writing.push(body);
    await store;
    this.writing.splice(this.writing.indexOf(body), 1);
  }

  /** The number of bodies that are being written. */
  get count(): number {
    return this.writing.length;
  }

  /** Keep the bodies whose writes have not ended. `next` is the position of the first of them. */
  save(epoch: string, next: number, { metrics, counts }: BoardRecord): void {
    if (this.writing.length === 0) return;
    const saved: Saved = { epoch, next, bodies: this.writing, board: { metrics, counts } };
    const text = JSON.stringify(saved);
    if (text.length > MAX_LENGTH) return;
    try {
      localStorage.setItem(this.key, text);
    } catch {
      // The browser blocks its storage: what is not stored yet is lost with the page.
    }
  }

  /** Append the bodies that are not in a spool, then forget them. It can be interrupted and begun again. */
  async restore(spool: Pick<BoardSpool, "state" | "record" | "append">): Promise<void> {
    const saved = this.read();
    const { epoch, next } = spool.state;
    if (saved !== null && saved.epoch === epoch && next < saved.next + saved.bodies.length) {
      Object.assign(spool.record, saved.board);
      // A spool that has a later position has the bodies before it.
      for (const { kind, body, readings } of saved.bodies.slice(Math.max(0, next - saved.next)))
        await spool.append(kind, body, readings);
    }
    if (saved !== null) localStorage.removeItem(this.key);
  }

  private read(): Saved | null {
    try {
      return JSON.parse(localStorage.getItem(this.key) ?? "null") as Saved | null;
    } catch {
      return null;
    }
  }
}

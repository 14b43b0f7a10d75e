/** A resource of the hub that moves: it is polled, and one request waits for its next change. */

import type { ReadonlySignal } from "@preact/signals";
import { Poller } from "./poller";

/** Others change it, too. What this page changes is followed without this delay. */
const POLL_PERIOD_MS = 5000;
/** Time for which a request waits. It holds one of the browser's six connections, so there is one at a time. */
export const WAIT_S = 25;

/** A request that waits for a change. Requests with the same key wait for the same one. */
export interface Waiting<T> {
  key: string;
  request: (signal: AbortSignal) => Promise<T>;
  isNews: (answer: T) => boolean;
}

/** A resource as its owner keeps it. */
interface Followed<T> {
  /** Request the whole resource. Throws ApiError. */
  load: () => Promise<void>;
  /** Return the request that waits for what changes next; null while nothing moves. */
  next: () => Waiting<T> | null;
  receive: (answer: T) => void;
}

export class Follower<T> {
  private readonly followed: Followed<T>;
  private readonly poller: Poller<void>;
  private readonly stop: () => void;
  private waiting: { key: string; abort: AbortController } | null = null;
  private isClosed = false;

  constructor(followed: Followed<T>) {
    this.followed = followed;
    this.poller = new Poller(() => this.load(), POLL_PERIOD_MS);
    this.stop = this.poller.start();
  }

  /** Why the hub does not return the resource; null if it does. */
  get problem(): ReadonlySignal<string | null> {
    return this.poller.problem;
  }

  /** Load the resource now. */
  refresh(): void {
    this.load().catch(() => {
      // The poller asks again, and reports the problem.
    });
  }

  close(): void {
    this.isClosed = true;
    this.stop();
    this.waiting?.abort.abort();
  }

  /** Wait for the next change, unless a request waits for it already. */
  async follow(): Promise<void> {
    const next = this.isClosed ? null : this.followed.next();
    if (next === null || next.key === this.waiting?.key) return;
    this.waiting?.abort.abort();
    const waiting = { key: next.key, abort: new AbortController() };
    this.waiting = waiting;
    const began_ms = performance.now();
    let answer: T | null = null;
    try {
      answer = await next.request(waiting.abort.signal);
    } catch {
      // The poller asks again, and reports the problem.
    }
    if (this.waiting === waiting) this.waiting = null;
    if (answer === null || this.isClosed) return;
    // A hub with too many waiting requests answers at once, without news: the poller continues then.
    if (!next.isNews(answer) && performance.now() - began_ms < WAIT_S * 500) return;
    this.followed.receive(answer);
    void this.follow();
  }

  private async load(): Promise<void> {
    await this.followed.load();
    void this.follow();
  }
}

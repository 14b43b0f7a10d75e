/**
 * Agent of one board: stores the readings of its lines in a spool and streams the spool to the hub. One tab owns a board
 * at a time, by a lock of the browser.
 */

import { signal } from "@preact/signals";
import type { KnownType } from "../formats/interpretation";
import type { MetricType } from "../formats/record";
import { basePath } from "../wire/base_path";
import type { Reject, Source } from "../wire/device";
import { BatchBuilder, type Body, RefusalTally, withMetrics } from "./batch";
import { BoardSpool } from "./board_spool";
import type { BoardDatabase, BoardRecord } from "./database";
import { Leftover } from "./leftover";
import type { LineResult } from "./lines";
import { nowNs, type PortStatus } from "./port_feed";
import { portName } from "./serial";
import { waitingIn } from "./spool";
import { Uplink } from "./uplink";

/** Longest time for which readings wait for others in their batch. */
const BATCH_MS = 250;
/** Time between two reports of what was refused. */
const REPORT_MS = 5000;
const MAX_SOURCE_ERROR = 256;

type Timer = ReturnType<typeof setTimeout> | undefined;

/** Become the only tab that runs a board; return how to release it, null if another tab runs it. */
function lockBoard(device: string): Promise<(() => void) | null> {
  return new Promise((resolve) => {
    void navigator.locks.request(`telemetry-hub board ${basePath} ${device}`, { ifAvailable: true }, (lock) => {
      if (lock !== null) return new Promise<void>((release) => resolve(release));
      resolve(null);
      return undefined;
    });
  });
}

export class Board {
  /** Grows whenever a count or the spool changes. */
  readonly version = signal(0);
  readonly uplink: Uplink;
  /** The last batch, or values of one, that the hub put in quarantine. */
  reject: Reject | null = null;
  private readonly spool: BoardSpool;
  private readonly release: () => void;
  private readonly leftover: Leftover;
  private readonly batch = new BatchBuilder();
  private readonly tally = new RefusalTally();
  private readonly leaving = new AbortController();
  private port: PortStatus = { state: "closed" };
  private portSince = nowNs();
  private batchTimer: Timer;
  private reportTimer: Timer;

  private constructor(spool: BoardSpool, url: string, release: () => void, leftover: Leftover) {
    this.spool = spool;
    this.release = release;
    this.leftover = leftover;
    const { device } = spool.record;
    this.uplink = new Uplink(url, {
      spool,
      device,
      token: () => spool.record.token,
      source: () => this.source(),
      nowNs,
      onReject: (reject) => {
        this.reject = reject;
        this.version.value++;
      },
    });
    window.addEventListener("online", () => this.uplink.retry(), { signal: this.leaving.signal });
  }

  /** Open a board of the database. Return null if another tab runs it. `url` is that of the hub's device endpoint. */
  static async open(database: BoardDatabase, record: BoardRecord, url: string): Promise<Board | null> {
    const release = await lockBoard(record.device);
    if (release === null) return null;
    let board: Board | null = null;
    const spool = new BoardSpool(database, record, await database.spool(record), () => {
      if (board === null) return;
      board.version.value++;
      board.uplink.wake();
    });
    const leftover = new Leftover(record.device);
    await leftover.restore(spool);
    board = new Board(spool, url, release, leftover);
    return board;
  }

  get record(): BoardRecord {
    return this.spool.record;
  }

  /** Batches and reports that wait for their acknowledgement. */
  get waiting(): number {
    return waitingIn(this.spool.state);
  }

  /** Why the browser cannot store batches; "" if it can. */
  get problem(): string {
    return this.spool.problem;
  }

  /** The types that the metrics of the board have already. */
  get knownType(): KnownType {
    const types = new Map(this.record.metrics.map(({ name, type }): [string, MetricType] => [name, type ?? "float"]));
    return (_, metric) => types.get(metric) ?? null;
  }

  /** Write changes of the record. */
  save(changes: Partial<BoardRecord>): Promise<void> {
    Object.assign(this.record, changes);
    this.version.value++;
    return this.spool.save();
  }

  /** Report the state of the board's port to the hub. */
  setPort(status: PortStatus): void {
    this.port = status;
    this.portSince = nowNs();
  }

  /** Store the readings of lines. It waits where the disk does not keep up. */
  async take(results: readonly LineResult[]): Promise<void> {
    const { counts } = this.record;
    for (const { rows, refusals, news, arrivalNs, isSkipped } of results) {
      counts.lines++;
      counts.skipped += Number(isSkipped);
      counts.refused += refusals.length;
      if (news.length > 0) this.record.metrics = withMetrics(this.record.metrics, news);
      this.tally.add(refusals, arrivalNs);
      for (const row of rows) {
        if (!this.batch.hasRoom(row)) await this.flush();
        counts.readings += row.values.size;
        this.batch.add(row, arrivalNs);
      }
    }
    this.schedule();
    this.version.value++;
  }

  /** Return when everything that was taken is stored. */
  async settle(): Promise<void> {
    await Promise.all([this.flush(), this.report()]);
    await this.spool.settled();
  }

  /** The page is left: keep what is not stored yet, because a write to the database may not end any more. */
  leave(): void {
    void this.flush();
    void this.report();
    this.leftover.save(this.spool.state.epoch, this.spool.nextPosition, this.record);
  }

  /** Close the connection and release the board. The spool stays in the database. */
  async close(): Promise<void> {
    await this.settle();
    this.uplink.close();
    this.leaving.abort();
    this.release();
  }

  private schedule(): void {
    if (this.batch.readings > 0) this.batchTimer ??= setTimeout(() => this.endBatch(), BATCH_MS);
    if (!this.tally.isEmpty) this.reportTimer ??= setTimeout(() => void this.report(), REPORT_MS);
  }

  private endBatch(): void {
    this.batchTimer = undefined;
    // A slow disk makes the batches larger, and not a queue of them.
    if (this.leftover.count > 0) this.schedule();
    else void this.flush();
  }

  private async flush(): Promise<void> {
    clearTimeout(this.batchTimer);
    this.batchTimer = undefined;
    await this.store(this.batch.take());
  }

  private async report(): Promise<void> {
    clearTimeout(this.reportTimer);
    this.reportTimer = undefined;
    await this.store(this.tally.take(portName(this.record.port)));
  }

  private async store(body: Body | null): Promise<void> {
    if (body !== null) await this.leftover.during(body, this.spool.append(body.kind, body.body, body.readings));
  }

  private source(): Source {
    const { port } = this;
    const isOk = port.state === "reading";
    const error = port.state === "failed" ? port.reason : "the port is closed";
    const name = portName(this.record.port);
    return { name, ok: isOk, since: this.portSince, error: isOk ? undefined : error.slice(0, MAX_SOURCE_ERROR) };
  }
}

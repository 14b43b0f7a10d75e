/** Spool of one board on disk: changes are written one after another, and each counts when it is durable. */

import type { Metric } from "../wire/device";
import { type BoardDatabase, type BoardRecord, newEpoch } from "./database";
import * as spool from "./spool";

/** Bytes of the batches of a board: an hour and a half of 115,200 baud, or weeks of a board that sends each second. */
export const MAX_SPOOL_BYTES = 64 * 1024 * 1024;
/** Entries that are read at a time. */
const MAX_ENTRIES = 64;
const FAILED_REASON = "the browser could not store these batches";

/** An entry that can be sent. */
export interface NumberedEntry {
  first: number;
  last: number;
  kind: spool.EntryKind;
  readings: number;
  body: string;
}

export class BoardSpool {
  state: spool.SpoolState;
  readonly record: BoardRecord;
  /** Why the last batch could not be stored; "" if it was. */
  problem = "";
  private readonly database: BoardDatabase;
  private readonly onChange: () => void;
  private readonly maxBytes: number;
  private last: Promise<unknown> = Promise.resolve();
  private missed = 0;
  private toAcknowledge = 0;

  constructor(
    database: BoardDatabase,
    record: BoardRecord,
    state: spool.SpoolState,
    onChange: () => void,
    maxBytes = MAX_SPOOL_BYTES,
  ) {
    this.database = database;
    this.record = record;
    this.state = state;
    this.onChange = onChange;
    this.maxBytes = maxBytes;
  }

  /** Position of the next entry, behind the gap of those that could not be stored. */
  get nextPosition(): number {
    return this.state.next + this.missed;
  }

  get metrics(): readonly Metric[] {
    return this.record.metrics;
  }

  /**
   * Store a batch or a report with the board's record. A batch that the browser cannot store, because its disk is full, is
   * lost; the next one that is stored declares that.
   */
  append(kind: "data" | "refused", body: string, readings: number): Promise<void> {
    return this.enqueue(async () => {
      const missed = { batches: this.missed, reason: FAILED_REASON };
      for (const maxBytes of [this.maxBytes, this.state.size_bytes / 2]) {
        try {
          await this.adopt(spool.append(this.state, kind, body, readings, maxBytes, missed));
          this.missed = 0;
          this.problem = "";
          return;
        } catch (error) {
          // The second attempt has room by the loss of the oldest half.
          this.problem = error instanceof Error ? error.message : String(error);
        }
      }
      this.missed++;
      this.onChange();
    });
  }

  /** Remove all entries up to a number. Numbers that arrive while the disk is busy are one change. */
  acknowledge(seq: number): void {
    const isWaiting = this.toAcknowledge > 0;
    this.toAcknowledge = Math.max(this.toAcknowledge, seq);
    if (isWaiting) return;
    void this.enqueue(async () => {
      const change = spool.acknowledge(this.state, this.toAcknowledge);
      this.toAcknowledge = 0;
      if (change === null) return;
      const positions = new Set(change.removed);
      for (const { position, readings } of this.state.index)
        if (positions.has(position)) this.record.counts.acknowledged += readings;
      await this.tryAdopt(change);
    });
  }

  confirm(): void {
    this.state = spool.confirm(this.state);
  }

  /** Replace a batch that the hub cannot take by a gap. */
  replace(seq: number, reason: string): Promise<void> {
    return this.enqueue(async () => {
      const change = spool.replace(this.state, seq, reason);
      if (change !== null) await this.tryAdopt(change);
    });
  }

  /** Begin a new epoch: the hub has more batches of this one than the spool knows of. */
  beginEpoch(loss: string): Promise<void> {
    // The hub has the batches below the number of the hello. The later ones are of this run, and new.
    if (this.state.opened !== null) this.acknowledge(spool.helloSeq(this.state) - 1);
    return this.enqueue(() => this.tryAdopt(spool.beginEpoch(this.state, newEpoch(), loss)));
  }

  /** Write the board's record, such as changed settings. */
  save(): Promise<void> {
    return this.enqueue(() => this.tryAdopt({ state: this.state, removed: [], put: [] }));
  }

  /** Return when everything that was asked for before is written. */
  settled(): Promise<unknown> {
    return this.last;
  }

  /** Return the entries behind a number, in order. */
  async entriesAfter(seq: number, max: number): Promise<NumberedEntry[]> {
    const { state } = this;
    const found = spool.entriesAfter(state, seq, Math.min(max, MAX_ENTRIES));
    if (found.length === 0) return [];
    // A cut gap begins behind the position of its entry.
    const first = state.index.find(({ last }) => last >= found[0].position)?.position ?? found[0].position;
    const bodies = await this.database.bodies(this.record.device, first, found[found.length - 1].position);
    return found.flatMap(({ position, last, kind, readings, reason }, place) => {
      const body = reason ?? bodies.get(place === 0 && kind === "gap" ? first : position);
      // An acknowledgement may have removed it meanwhile.
      if (body === undefined) return [];
      return [{ first: spool.seqOf(state, position), last: spool.seqOf(state, last), kind, readings, body }];
    });
  }

  private enqueue<T>(change: () => Promise<T>): Promise<T> {
    const result = this.last.then(change);
    this.last = result.catch(() => undefined);
    return result;
  }

  /** Write a change; the next welcome repeats it if it fails. */
  private async tryAdopt(change: spool.SpoolChange): Promise<void> {
    try {
      await this.adopt(change);
    } catch (error) {
      this.problem = error instanceof Error ? error.message : String(error);
      this.onChange();
    }
  }

  private async adopt(change: spool.SpoolChange): Promise<void> {
    const { epoch, base, next, acked } = change.state;
    const head = { epoch, base, next, acked };
    await this.database.write({ ...this.record, head }, change);
    // `confirm` may have been called meanwhile.
    this.state = { ...change.state, opened: change.state.opened === null ? null : this.state.opened };
    this.record.head = head;
    this.onChange();
  }
}

/** Boards and their spools in IndexedDB, which survives a reload, the end of the browser and a power failure. */

import { basePath } from "../wire/base_path";
import type { Metric } from "../wire/device";
import { type IndexEntry, newSpool, type SpoolChange, type SpoolState } from "./spool";

/** Counts of what a board sent, since its spool was created. */
export interface BoardCounts {
  lines: number;
  /** First lines after the port was opened: they may be the rest of a line. */
  skipped: number;
  readings: number;
  refused: number;
  /** Readings in batches that the hub has on disk. */
  acknowledged: number;
}

/** USB identity of a port, empty for another kind of port. */
export interface PortIdentity {
  usbVendorId?: number;
  usbProductId?: number;
}

/** Settings of a board, which a person chooses. `rules` has the names of docs/formats.md. */
export interface BoardSettings {
  baud: number;
  rules: Record<string, string>;
}

/** A board in the database. `isStarted`: it streams, also after a reload. */
export interface BoardRecord {
  device: string;
  token: string;
  tokenId: string;
  settings: BoardSettings;
  port: PortIdentity;
  isStarted: boolean;
  metrics: Metric[];
  counts: BoardCounts;
  /** First lines of the port, which decided the format: after a reload the board does not send its header again. */
  lines: Uint8Array[];
  head: Pick<SpoolState, "epoch" | "base" | "next" | "acked">;
}

const NAME = `telemetry-hub ${basePath}`;
const VERSION = 1;
const BOARDS = "boards";
const ENTRIES = "entries";
const LAST_POSITION = Number.MAX_SAFE_INTEGER;

/** Return 64 random bits in hexadecimal. */
export function newEpoch(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(8));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Return the record of a board that has sent nothing yet. */
export function newBoard(device: string, settings: BoardSettings, port: PortIdentity): BoardRecord {
  const { epoch, base, next, acked } = newSpool(newEpoch());
  const counts = { lines: 0, skipped: 0, readings: 0, refused: 0, acknowledged: 0 };
  const head = { epoch, base, next, acked };
  return { device, token: "", tokenId: "", settings, port, isStarted: false, metrics: [], counts, lines: [], head };
}

function answerOf<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

function endOf(transaction: IDBTransaction): Promise<void> {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = () =>
      reject(transaction.error ?? new DOMException("the transaction was aborted", "AbortError"));
  });
}

/** The database of this browser for the hub of this page. */
export class BoardDatabase {
  private readonly database: IDBDatabase;

  private constructor(database: IDBDatabase) {
    this.database = database;
    // Another tab deletes or upgrades the database: this one must not block it.
    database.onversionchange = () => database.close();
  }

  static async open(): Promise<BoardDatabase> {
    const request = indexedDB.open(NAME, VERSION);
    request.onupgradeneeded = () => {
      request.result.createObjectStore(BOARDS, { keyPath: "device" });
      request.result.createObjectStore(ENTRIES, { keyPath: ["device", "position"] });
    };
    return new BoardDatabase(await answerOf(request));
  }

  close(): void {
    this.database.close();
  }

  boards(): Promise<BoardRecord[]> {
    return answerOf(this.database.transaction(BOARDS).objectStore(BOARDS).getAll() as IDBRequest<BoardRecord[]>);
  }

  /** Return the spool of a board, without the bodies of its entries. */
  async spool({ device, head }: BoardRecord): Promise<SpoolState> {
    const index: IndexEntry[] = [];
    const cursor = this.database.transaction(ENTRIES).objectStore(ENTRIES).openCursor(keysOf(device));
    await new Promise<void>((resolve, reject) => {
      cursor.onerror = () => reject(cursor.error);
      cursor.onsuccess = () => {
        if (cursor.result === null) return resolve();
        const { position, last, kind, readings, bytes } = cursor.result.value as IndexEntry;
        index.push({ position, last, kind, readings, bytes });
        cursor.result.continue();
      };
    });
    return { ...head, opened: head.next, index, size_bytes: index.reduce((sum, { bytes }) => sum + bytes, 0) };
  }

  /** Return the bodies of the entries at these positions, both included. */
  async bodies(device: string, first: number, last: number): Promise<Map<number, string>> {
    const store = this.database.transaction(ENTRIES).objectStore(ENTRIES);
    const found = (await answerOf(store.getAll(keysOf(device, first, last)))) as { position: number; body: string }[];
    return new Map(found.map(({ position, body }) => [position, body]));
  }

  /** Write a board, and what changes in its spool, in one transaction. Durable on return. */
  async write(
    record: BoardRecord,
    change: Pick<SpoolChange, "removed" | "put"> = { removed: [], put: [] },
  ): Promise<void> {
    // The default durability of browsers survives their own end, and no power failure.
    const transaction = this.database.transaction([BOARDS, ENTRIES], "readwrite", { durability: "strict" });
    const ended = endOf(transaction);
    transaction.objectStore(BOARDS).put(record);
    const entries = transaction.objectStore(ENTRIES);
    const { removed, put } = change;
    // Removed entries are neighbours: one range instead of a request for each of them.
    if (removed.length > 0) entries.delete(keysOf(record.device, removed[0], removed[removed.length - 1]));
    for (const entry of put) entries.put({ device: record.device, ...entry });
    transaction.commit();
    await ended;
  }

  /** Delete a board and its spool. */
  async remove(device: string): Promise<void> {
    const transaction = this.database.transaction([BOARDS, ENTRIES], "readwrite", { durability: "strict" });
    const ended = endOf(transaction);
    transaction.objectStore(BOARDS).delete(device);
    transaction.objectStore(ENTRIES).delete(keysOf(device));
    await ended;
  }
}

function keysOf(device: string, first = -LAST_POSITION, last = LAST_POSITION): IDBKeyRange {
  return IDBKeyRange.bound([device, first], [device, last]);
}

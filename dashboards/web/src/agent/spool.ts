/**
 * Spool of one board: the batches that the hub has not acknowledged. Pure: a function returns the next state and what to
 * write for it in one transaction, and the caller adopts the state when that is on disk.
 *
 * An entry has a position, which never changes, and a number for the hub, which counts within an epoch: position − base.
 */

/** Bytes of an entry besides its body: its key and its counts. */
export const ENTRY_BYTES = 64;
const OVERFLOW_REASON = "the spool was full";
/** Reason of a gap of batches that a hub acknowledged and lost, and that the spool does not keep any more. */
export const NOT_KEPT_REASON = "acknowledged before, and unknown to this hub";

export type EntryKind = "data" | "refused" | "gap";

/** Entry without its body. A gap spans the positions up to `last`; for others it is `position`. */
export interface IndexEntry {
  position: number;
  last: number;
  kind: EntryKind;
  readings: number;
  bytes: number;
}

/** Entry with its body: the encoded fields of its message behind the number, or the reason of a gap. */
export interface SpoolEntry extends IndexEntry {
  body: string;
}

export interface SpoolState {
  /** Random id of this numbering of batches: 16 hexadecimal digits. */
  epoch: string;
  base: number;
  /** Position of the next entry. */
  next: number;
  /** Position up to which all entries are acknowledged and removed. */
  acked: number;
  /** Position of the next entry when the spool was opened; null from the first welcome on. See `helloSeq`. */
  opened: number | null;
  /** The entries behind `acked`, in order and without holes. */
  index: readonly IndexEntry[];
  size_bytes: number;
}

/** Change to write for the next state: remove the entries at these positions, then put the others. */
export interface SpoolChange {
  state: SpoolState;
  removed: number[];
  put: SpoolEntry[];
}

export function newSpool(epoch: string): SpoolState {
  return { epoch, base: 0, next: 1, acked: 0, opened: null, index: [], size_bytes: 0 };
}

export function seqOf(state: SpoolState, position: number): number {
  return position - state.base;
}

/** Return the number of the next new entry. */
export function nextSeq(state: SpoolState): number {
  return seqOf(state, state.next);
}

/**
 * Return the number for the hello, from which on nothing was ever sent. Until the first welcome it is that of the opened
 * spool: with one that counts new batches, a hub could not recognise a spool that was restored from a copy.
 */
export function helloSeq(state: SpoolState): number {
  return seqOf(state, state.opened ?? state.next);
}

/** Return how many batches and reports wait for an acknowledgement. */
export function waitingIn({ index }: SpoolState): number {
  return index.reduce((sum, { kind }) => sum + Number(kind !== "gap"), 0);
}

const sizeOf = (index: readonly IndexEntry[]) => index.reduce((sum, { bytes }) => sum + bytes, 0);

function entryOf(position: number, last: number, kind: EntryKind, body: string, readings = 0): SpoolEntry {
  return { position, last, kind, readings, bytes: ENTRY_BYTES + body.length, body };
}

/**
 * Store a batch or a report. Above `maxBytes` the oldest ones are removed and become a gap; the newest always stays.
 * `missed` batches before it could not be stored and are a gap, too, for `reason`.
 */
export function append(
  state: SpoolState,
  kind: "data" | "refused",
  body: string,
  readings: number,
  maxBytes: number,
  missed = { batches: 0, reason: "" },
): SpoolChange {
  const put: SpoolEntry[] = [];
  let { next } = state;
  if (missed.batches > 0) {
    put.push(entryOf(next, next + missed.batches - 1, "gap", missed.reason));
    next += missed.batches;
  }
  put.push(entryOf(next, next, kind, body, readings));
  const index = [...state.index, ...put.map(withoutBody)];
  const grown = { ...state, next: next + 1, index, size_bytes: state.size_bytes + sizeOf(put) };
  return dropOldest({ state: grown, removed: [], put }, maxBytes);
}

function withoutBody({ body: _, ...entry }: SpoolEntry): IndexEntry {
  return entry;
}

function dropOldest(change: SpoolChange, maxBytes: number): SpoolChange {
  const { state } = change;
  let size = state.size_bytes;
  let end = 0;
  // The entries before `end` leave the spool; the newest one stays.
  while (size > maxBytes && end < state.index.length - 1) size -= state.index[end++].bytes;
  const dropped = state.index.slice(0, end);
  if (!dropped.some(({ kind }) => kind !== "gap")) return change;
  // One gap takes the place of all of them, and of the gaps between them.
  const gap = entryOf(dropped[0].position, dropped[end - 1].last, "gap", OVERFLOW_REASON);
  const index = [withoutBody(gap), ...state.index.slice(end)];
  const positions = new Set(dropped.map(({ position }) => position));
  return {
    state: { ...state, index, size_bytes: sizeOf(index) },
    removed: [...change.removed, ...positions],
    put: [gap, ...change.put.filter(({ position }) => !positions.has(position))],
  };
}

/** Remove all entries up to a number that the hub has on disk. Return null if there is none. */
export function acknowledge(state: SpoolState, seq: number): SpoolChange | null {
  const acked = Math.min(seq + state.base, state.next - 1);
  if (acked <= state.acked) return null;
  const end = state.index.findIndex(({ last }) => last > acked);
  const removed = state.index.slice(0, end < 0 ? state.index.length : end);
  const index = state.index.slice(removed.length);
  const next = { ...state, acked, index, size_bytes: state.size_bytes - sizeOf(removed) };
  return { state: next, removed: removed.map(({ position }) => position), put: [] };
}

/** Record that a hub accepted this spool: from now on the hello has the number of the next entry. */
export function confirm(state: SpoolState): SpoolState {
  return { ...state, opened: null };
}

/** Replace a batch that the hub cannot take by a gap. Return null if it is not stored any more. */
export function replace(state: SpoolState, seq: number, reason: string): SpoolChange | null {
  const at = state.index.findIndex(({ position, kind }) => position === seq + state.base && kind !== "gap");
  if (at < 0) return null;
  const gap = entryOf(seq + state.base, seq + state.base, "gap", reason);
  const index = state.index.with(at, withoutBody(gap));
  return { state: { ...state, index, size_bytes: sizeOf(index) }, removed: [], put: [gap] };
}

/**
 * Begin a new epoch, in which the stored entries follow a gap, number 1, with this reason: batches that only a newer copy
 * of the spool had.
 */
export function beginEpoch(state: SpoolState, epoch: string, loss: string): SpoolChange {
  const first = state.index[0]?.position ?? state.next;
  const gap = entryOf(first - 1, first - 1, "gap", loss);
  const index = [withoutBody(gap), ...state.index];
  const base = first - 2;
  const next = { ...state, epoch, base, acked: first - 2, opened: null, index, size_bytes: sizeOf(index) };
  return { state: next, removed: [], put: [gap] };
}

/**
 * Return the entries behind a number, in order, at most this many. A gap that begins before is cut. For a hub that lost
 * what it acknowledged, entries that are not kept any more are a gap, too.
 */
export function entriesAfter(state: SpoolState, seq: number, max: number): (IndexEntry & { reason?: string })[] {
  const after = seq + state.base;
  const found: (IndexEntry & { reason?: string })[] = [];
  if (after < state.acked) {
    const lost = { position: after + 1, last: state.acked, kind: "gap" as const, readings: 0, bytes: 0 };
    found.push({ ...lost, reason: NOT_KEPT_REASON });
  }
  const from = Math.max(after, state.acked);
  let at = firstBehind(state.index, from);
  for (; at < state.index.length && found.length < max; at++) {
    const entry = state.index[at];
    found.push(entry.position <= from ? { ...entry, position: from + 1 } : entry);
  }
  return found;
}

/** Return the place of the first entry that ends behind a position. */
function firstBehind(index: readonly IndexEntry[], position: number): number {
  let [low, high] = [0, index.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (index[middle].last > position) high = middle;
    else low = middle + 1;
  }
  return low;
}

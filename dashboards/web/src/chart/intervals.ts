/** Intervals of a series: gaps without readings, the reasons for them, and bands of equal states. */

import type { Columns } from "../data/series_buffer";
import { duration, type TimeRange } from "../data/time";
import type { EventDetails } from "../wire/api";

/** Distances between readings that are examined for the usual interval. */
const SAMPLE = 400;
/** Shorter distances are never gaps: a sleeping tab or a busy network delays readings as much. */
const MIN_GAP_MS = 1500;
/** A distance is a gap if it is this many usual intervals long. */
const FACTOR = 4;

/**
 * Return the distance between readings above which there is a gap, in milliseconds; Infinity while too little is
 * known. The median gives the interval of a regular series. The 95th percentile keeps a series that reports on
 * change, with its varying distances, from consisting of gaps.
 */
export function gapThreshold(times: ArrayLike<number>): number {
  const count = times.length;
  if (count < 4) return Number.POSITIVE_INFINITY;
  const step = Math.max(1, Math.floor((count - 1) / SAMPLE));
  const distances: number[] = [];
  for (let i = count - 1; i >= 1; i -= step) {
    const distance = times[i] - times[i - 1];
    if (distance > 0) distances.push(distance);
  }
  if (distances.length < 3) return Number.POSITIVE_INFINITY;
  distances.sort((a, b) => a - b);
  const median = distances[distances.length >> 1];
  // With few distances, the gap itself would be the 95th percentile.
  const slow = distances.length >= 40 ? distances[Math.floor(distances.length * 0.95)] : median;
  return Math.max(MIN_GAP_MS, FACTOR * median, slow > 8 * median ? median * FACTOR : 2 * slow);
}

/** Return the gaps between these times in order. */
export function findGaps(times: ArrayLike<number>, threshold: number): TimeRange[] {
  const gaps: TimeRange[] = [];
  for (let i = 1; i < times.length; i++)
    if (times[i] - times[i - 1] > threshold) gaps.push({ from: times[i - 1], to: times[i] });
  return gaps;
}

/**
 * Return when the silence after the last reading began; null while the next reading may still come. An offline device
 * sends nothing, also if it sent too few readings for a threshold: what it reported holds until it went offline.
 */
export function silenceStart(
  last: number,
  { now, threshold, offlineSince }: { now: number; threshold: number; offlineSince: number | null },
): number | null {
  if (now - last > threshold) return last;
  return offlineSince === null ? null : Math.max(last, offlineSince);
}

/** Return the intersection of all lists: where a chart shows nothing. */
export function commonGaps(lists: TimeRange[][]): TimeRange[] {
  if (lists.length === 0) return [];
  return lists.reduce((common, list) => {
    const both: TimeRange[] = [];
    let i = 0;
    let j = 0;
    while (i < common.length && j < list.length) {
      const from = Math.max(common[i].from, list[j].from);
      const to = Math.min(common[i].to, list[j].to);
      if (to > from) both.push({ from, to });
      if (common[i].to < list[j].to) i++;
      else j++;
    }
    return both;
  });
}

/** Kind of the event of a board that started again. */
const RESTARTED = "restarted";

/** Restart of the board of a device, by the clock of its readings. */
export interface Restart {
  time: number;
  detail: string;
}

/** Return the restarts among the events of a device. */
export function restartsIn(events: readonly EventDetails[]): Restart[] {
  return events
    .filter(({ kind }) => kind === RESTARTED)
    .map(({ time_ns, detail }) => ({ time: time_ns / 1e6, detail }));
}

/** Return the restart that is nearest to a time, if it is within the distance. */
export function restartNear(restarts: readonly Restart[], time: number, distance_ms: number): Restart | null {
  let nearest: Restart | null = null;
  for (const restart of restarts) {
    const distance = Math.abs(restart.time - time);
    if (distance <= distance_ms && (nearest === null || distance < Math.abs(nearest.time - time))) nearest = restart;
  }
  return nearest;
}

/** Events this close to the edges of a gap belong to it. */
const NEAR_MS = 15_000;

/**
 * Return a sentence that explains a gap. `hubStarted_ms` is the start time of the running hub. Only the kind of an
 * event is evaluated: its detail may contain text from the agent.
 */
export function gapReason(gap: TimeRange, events: readonly EventDetails[], hubStarted_ms: number | null): string {
  const length = `No readings for ${duration(gap.to - gap.from)}`;
  const within = events.filter((event) => {
    const time = event.time_ns / 1e6;
    return time >= gap.from - NEAR_MS && time <= gap.to + NEAR_MS;
  });
  const find = (kind: string) => within.find((event) => event.kind === kind);
  const declared = find("gap");
  if (declared !== undefined) return `${length}. The device says: ${declared.detail}`;
  if (hubStarted_ms !== null && hubStarted_ms > gap.from && hubStarted_ms <= gap.to + NEAR_MS)
    return `${length}. The hub was off`;
  const gone = find("disconnected");
  if (gone !== undefined)
    return isHubStop(gone.detail) ? `${length}. The hub was off` : `${length}. The device was offline (${gone.detail})`;
  if (find("connected") !== undefined) return `${length}. The device was offline`;
  const restarted = find(RESTARTED);
  if (restarted !== undefined) return `${length}. The board restarted (${restarted.detail})`;
  return `${length}. The device sent none`;
}

/** Return whether the hub ended the connection: it stopped, or closed it with the code of a restarting service. */
function isHubStop(detail: string): boolean {
  return detail === "the hub stopped" || /^closed with 1012\b/.test(detail);
}

/** Interval of one state. */
interface Band extends TimeRange {
  value: number;
}

/** The end of bands: that of the range, or the time at which the series became silent. */
interface BandRange extends TimeRange {
  threshold: number;
  offlineSince?: number | null;
}

/**
 * Return the bands of a state series. Neighbouring readings of the same state form one band. It lasts until the
 * next state, a missing value, or a silence longer than `threshold`. The last band extends to the end of the range
 * unless the series is silent.
 */
export function stateBands(columns: Columns, timeRange: BandRange): Band[] {
  const { times, values } = columns;
  const bands: Band[] = [];
  let open: Band | null = null;
  for (let i = 0; i < times.length; i++) {
    const value = values[i];
    if (open !== null && times[i] - times[i - 1] > timeRange.threshold) {
      open.to = times[i - 1];
      open = null;
    }
    if (open !== null && Object.is(open.value, value)) {
      open.to = times[i];
      continue;
    }
    if (open !== null) open.to = times[i];
    open = Number.isNaN(value) ? null : { from: times[i], to: times[i], value };
    if (open !== null) bands.push(open);
  }
  const last = times.length > 0 ? times[times.length - 1] : 0;
  const { to, threshold, offlineSince = null } = timeRange;
  if (open !== null) open.to = silenceStart(last, { now: to, threshold, offlineSince }) ?? to;
  return bands.filter((band) => band.to > timeRange.from && band.from < timeRange.to);
}

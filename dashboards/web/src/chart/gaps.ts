/** Where a series has no readings although it usually would. */

import type { Stretch } from "../data/stretch";

/** Distances looked at to tell a series' usual interval. */
const SAMPLE = 400;
/** Below it no distance is a gap: a tab that sleeps or a busy network delays readings that much. */
const MIN_GAP_MS = 1500;
/** A distance is a gap when it is this many usual intervals long. */
const FACTOR = 4;

/**
 * The distance between neighbouring readings above which there is a gap, in milliseconds; Infinity while too little is
 * known. The median tells the rhythm of a regular series; the 95th percentile keeps a series that reports on change,
 * with its many different distances, from being all gaps.
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
  // With few distances the one gap itself would be the 95th percentile.
  const slow = distances.length >= 40 ? distances[Math.floor(distances.length * 0.95)] : median;
  return Math.max(MIN_GAP_MS, FACTOR * median, slow > 8 * median ? median * FACTOR : 2 * slow);
}

/** The gaps among these times, in order. */
export function findGaps(times: ArrayLike<number>, threshold: number): Stretch[] {
  const gaps: Stretch[] = [];
  for (let i = 1; i < times.length; i++)
    if (times[i] - times[i - 1] > threshold) gaps.push({ from: times[i - 1], to: times[i] });
  return gaps;
}

/** What is a gap in all of these lists: where a chart shows nothing at all. */
export function commonGaps(lists: Stretch[][]): Stretch[] {
  if (lists.length === 0) return [];
  return lists.reduce((common, list) => {
    const both: Stretch[] = [];
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

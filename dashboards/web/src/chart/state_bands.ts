/** The bands of a state timeline: from when to when a state lasted. */

import type { Columns } from "../data/series_buffer";
import type { Stretch } from "../data/stretch";

export interface Band extends Stretch {
  value: number;
}

/**
 * Neighbouring readings of the same state are one band; it lasts until the next state, until a value is missing, or into a silence of at
 * most `threshold`. The last band goes on to the end of the stretch unless it has been silent for longer.
 */
export function bandsOf(columns: Columns, stretch: Stretch & { threshold: number }): Band[] {
  const { times, values } = columns;
  const bands: Band[] = [];
  let open: Band | null = null;
  for (let i = 0; i < times.length; i++) {
    const value = values[i];
    if (open !== null && times[i] - times[i - 1] > stretch.threshold) {
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
  if (open !== null && stretch.to - last <= stretch.threshold) open.to = stretch.to;
  return bands.filter((band) => band.to > stretch.from && band.from < stretch.to);
}

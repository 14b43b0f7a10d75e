/** What stands under the grid lines of a time axis. */

import { clock, day } from "../data/time_format";

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const DAY = 86_400_000;

/**
 * A label for each time, `step` milliseconds apart: the clock as fine as needed, and the day where it changes, or at the first
 * label when that is not today.
 */
export function timeLabels(times: readonly number[], step: number, now: number): string[] {
  return times.map((time, index) => {
    if (step >= DAY) return day(time, now);
    const date = new Date(time);
    const midnight =
      date.getHours() === 0 && date.getMinutes() === 0 && date.getSeconds() === 0 && time % SECOND === 0;
    if (midnight) return day(time, now);
    const text = clock(time, step >= MINUTE ? "minutes" : step >= SECOND ? "seconds" : "milliseconds");
    const otherDay = index === 0 && date.toDateString() !== new Date(now).toDateString();
    return otherDay ? `${day(time, now)} ${text}` : text;
  });
}

/** One series as a chart has it: what there is to draw, and how far it has been drawn. */

import type { WindowSeries } from "../data/history_window";
import type { Columns, SeriesBuffer } from "../data/series_buffer";
import { compose } from "./compose";
import { gapThreshold } from "./gaps";

export interface HeldSeries {
  columns: Columns;
  lastTime: number;
  threshold: number;
  /** Up to which time the line has been drawn. */
  drawnTo: number;
  readonly buffer: SeriesBuffer;
  readonly revision: number;
  readonly window: WindowSeries | undefined;
  /** How many readings the threshold was found from. */
  readonly judged: number;
}

/** What has become of a series since it was looked at last. */
export type Change = "none" | "appended" | "replaced";

/** The threshold is found anew when there are so many times more readings. */
const JUDGE_AGAIN = 1.25;

/** Looks at a series again. `shownTo` is the end of what is drawn: what comes after it in a view of the past is no change. */
export function look(
  before: HeldSeries | null,
  buffer: SeriesBuffer,
  window: WindowSeries | undefined,
  shownTo: number,
): { held: HeldSeries; change: Change } {
  const same =
    before !== null &&
    before.buffer === buffer &&
    before.revision === buffer.revision &&
    before.window === window;
  if (same && window !== undefined && before.lastTime > shownTo) return { held: before, change: "none" };
  if (same && before.lastTime === buffer.lastTime && before.columns.times.length === buffer.length)
    return { held: before, change: "none" };
  const columns = window === undefined ? buffer : compose(buffer, window);
  const { times, values } = columns;
  const judge = !same || buffer.length > before.judged * JUDGE_AGAIN;
  const held: HeldSeries = {
    columns: { times, values },
    lastTime: buffer.lastTime,
    threshold: judge ? gapThreshold(times) : before.threshold,
    drawnTo: same ? before.drawnTo : Number.NEGATIVE_INFINITY,
    buffer,
    revision: buffer.revision,
    window,
    judged: judge ? buffer.length : before.judged,
  };
  return { held, change: same && window === undefined ? "appended" : "replaced" };
}

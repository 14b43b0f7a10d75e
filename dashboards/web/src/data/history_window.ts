/**
 * The stretch of a device's past that the charts look at when what the feed holds does not cover it, or not finely enough. What
 * is held stays until the new answer is here, so that nothing flickers.
 */

import { fetchHistory, type SeriesHistory } from "./api";
import type { Columns } from "./series_buffer";
import type { Stretch } from "./stretch";

export interface WindowSeries extends Columns, Stretch {
  resolution: "raw" | "reduced";
  /** Distance of two points that the hub was asked for; a raw answer is finer. */
  step_ms: number;
  texts: string[] | null;
}

/** Gestures end before the hub is asked. */
const DEBOUNCE_MS = 120;
/** Metrics of one request: the address stays short, and one slow metric does not hold up all. */
const METRICS_PER_REQUEST = 32;
/** Asked for beyond each side of the view, in parts of its span: a little panning needs no request. */
const MARGIN = 0.5;
/** Points further apart than this many pixels are too coarse. */
const MAX_COARSE = 3;

export interface Wanted extends Stretch {
  width_px: number;
}

export class HistoryWindow {
  readonly series = new Map<string, WindowSeries>();
  version = 0;
  /** What went wrong with the last request, null when nothing did. */
  problem: string | null = null;
  onChange: (() => void) | null = null;
  private readonly device: string;
  private readonly pending = new Map<string, Wanted>();
  private timer = 0;
  private running: AbortController | null = null;

  constructor(device: string) {
    this.device = device;
  }

  close(): void {
    clearTimeout(this.timer);
    this.running?.abort();
    this.onChange = null;
  }

  /** Says that a chart shows this; asks the hub when what is held does not do. Cheap enough for every frame. */
  want(metric: string, wanted: Wanted): void {
    if (covers(this.series.get(metric), wanted)) {
      this.pending.delete(metric);
      return;
    }
    const before = this.pending.get(metric);
    if (before !== undefined && before.from === wanted.from && before.to === wanted.to) return;
    this.pending.set(metric, wanted);
    clearTimeout(this.timer);
    this.timer = window.setTimeout(() => void this.fetch(), DEBOUNCE_MS);
  }

  /** No chart looks at the past any more. */
  rest(): void {
    if (this.pending.size === 0 && this.series.size === 0) return;
    this.pending.clear();
    this.running?.abort();
    this.series.clear();
    this.problem = null;
    this.version++;
  }

  private async fetch(): Promise<void> {
    this.running?.abort();
    const running = new AbortController();
    this.running = running;
    const wanted = [...this.pending];
    try {
      for (let i = 0; i < wanted.length; i += METRICS_PER_REQUEST)
        await this.fetchSome(wanted.slice(i, i + METRICS_PER_REQUEST), running.signal);
      this.problem = null;
    } catch (error) {
      if (running.signal.aborted) return;
      // Asked again by the next gesture; what is held stays visible.
      this.problem = error instanceof Error ? error.message : String(error);
      this.pending.clear();
    }
    this.onChange?.();
  }

  private async fetchSome(wanted: [string, Wanted][], signal: AbortSignal): Promise<void> {
    const { from, to, width_px } = wanted[0][1];
    const margin = (to - from) * MARGIN;
    const asked = { from: Math.max(0, from - margin), to: to + margin };
    const points = Math.min(4000, Math.max(200, Math.ceil(width_px * 2 * (1 + 2 * MARGIN))));
    const metrics = wanted.map(([metric]) => metric);
    const history = await fetchHistory(this.device, metrics, { ...asked, points }, signal);
    const step_ms = (asked.to - asked.from) / (points / 2);
    for (const metric of metrics) {
      const answer = history.series.find((series) => series.metric === metric);
      this.series.set(metric, windowOf(answer, { ...asked, step_ms }));
      const pending = this.pending.get(metric);
      if (pending?.from === from && pending.to === to) this.pending.delete(metric);
    }
    this.version++;
    this.onChange?.();
  }
}

/** Whether what is held shows the wanted stretch, finely enough. */
export function covers(held: WindowSeries | undefined, wanted: Wanted): boolean {
  if (held === undefined || held.from > wanted.from || held.to < wanted.to) return false;
  if (held.resolution === "raw") return true;
  return held.step_ms <= ((wanted.to - wanted.from) / wanted.width_px) * MAX_COARSE;
}

/** An answer of the history API as columns; strings become positions in a list of texts. */
export function windowOf(
  answer: SeriesHistory | undefined,
  stretch: Stretch & { step_ms: number },
): WindowSeries {
  const times = Float64Array.from(answer?.time_ns ?? [], (time) => time / 1e6);
  const texts: string[] | null = answer?.type === "string" ? [] : null;
  const values = Float64Array.from(answer?.values ?? [], (value) => {
    if (value === null) return Number.NaN;
    if (texts === null) return Number(value);
    const text = String(value);
    const known = texts.indexOf(text);
    return known >= 0 ? known : texts.push(text) - 1;
  });
  return { times, values, texts, resolution: answer?.resolution ?? "raw", ...stretch };
}

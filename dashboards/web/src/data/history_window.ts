/**
 * History of a device for the range that its charts show, when the feed does not cover that range or is too
 * coarse. The current data stay visible until the answer arrives, so that nothing flickers.
 */

import type { SeriesPoints } from "../wire/api";
import { errorText, fetchHistory } from "./api";
import type { Columns } from "./series_buffer";
import { millisecondsOf, type TimeRange } from "./time";

export interface WindowSeries extends Columns, TimeRange {
  resolution: SeriesPoints["resolution"];
  /** Distance of two points that was requested; a raw answer is finer. */
  step_ms: number;
  texts: string[] | null;
}

/** A gesture ends before the request is sent. */
const DEBOUNCE_MS = 120;
/** Metrics per request: the address stays short, and a slow metric delays only its own request. */
const METRICS_PER_REQUEST = 32;
/** Range requested beyond each side of the view, as a fraction of its span: small pans need no request. */
const MARGIN = 0.5;
/** Points further apart than this many pixels are too coarse. */
const MAX_COARSE = 3;

interface WindowRequest extends TimeRange {
  width_px: number;
}

export class HistoryWindow {
  readonly series = new Map<string, WindowSeries>();
  version = 0;
  /** Why the last request failed; null after a successful one. */
  problem: string | null = null;
  onChange: (() => void) | null = null;
  private readonly device: string;
  private readonly pending = new Map<string, WindowRequest>();
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

  /** Request the range that a chart shows, unless the current data cover it. Charts call this for every frame. */
  request(metric: string, request: WindowRequest): void {
    if (covers(this.series.get(metric), request)) {
      this.pending.delete(metric);
      return;
    }
    const before = this.pending.get(metric);
    if (before !== undefined && before.from === request.from && before.to === request.to) return;
    this.pending.set(metric, request);
    clearTimeout(this.timer);
    this.timer = window.setTimeout(() => void this.fetch(), DEBOUNCE_MS);
  }

  /** Discard the window: no chart shows the past. */
  clear(): void {
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
    const requests = [...this.pending];
    try {
      for (let i = 0; i < requests.length; i += METRICS_PER_REQUEST)
        await this.fetchSome(requests.slice(i, i + METRICS_PER_REQUEST), running.signal);
      this.problem = null;
    } catch (error) {
      if (running.signal.aborted) return;
      // The next gesture sends the request again; the current data stay visible.
      this.problem = errorText(error);
      this.pending.clear();
    }
    this.onChange?.();
  }

  private async fetchSome(requests: [string, WindowRequest][], signal: AbortSignal): Promise<void> {
    const { from, to, width_px } = requests[0][1];
    const margin = (to - from) * MARGIN;
    const range = { from: Math.max(0, from - margin), to: to + margin };
    const points = Math.min(4000, Math.max(200, Math.ceil(width_px * 2 * (1 + 2 * MARGIN))));
    const metrics = requests.map(([metric]) => metric);
    const history = await fetchHistory(this.device, metrics, { ...range, points }, signal);
    const step_ms = (range.to - range.from) / (points / 2);
    for (const metric of metrics) {
      const answer = history.series.find((series) => series.metric === metric);
      this.series.set(metric, toWindowSeries(answer, { ...range, step_ms }));
      const pending = this.pending.get(metric);
      if (pending?.from === from && pending.to === to) this.pending.delete(metric);
    }
    this.version++;
    this.onChange?.();
  }
}

/** Return whether the current data show the requested range finely enough. */
export function covers(current: WindowSeries | undefined, request: WindowRequest): boolean {
  if (current === undefined || current.from > request.from || current.to < request.to) return false;
  if (current.resolution === "raw") return true;
  return current.step_ms <= ((request.to - request.from) / request.width_px) * MAX_COARSE;
}

/** Convert an answer of the history API to columns. Strings become positions in a list of texts. */
export function toWindowSeries(
  answer: SeriesPoints | undefined,
  timeRange: TimeRange & { step_ms: number },
): WindowSeries {
  const times = Float64Array.from(answer?.time_ns ?? [], millisecondsOf);
  const texts: string[] | null = answer?.type === "string" ? [] : null;
  const values = Float64Array.from(answer?.values ?? [], (value) => {
    if (value === null) return Number.NaN;
    if (texts === null) return Number(value);
    const text = String(value);
    const known = texts.indexOf(text);
    return known >= 0 ? known : texts.push(text) - 1;
  });
  return { times, values, texts, resolution: answer?.resolution ?? "raw", ...timeRange };
}

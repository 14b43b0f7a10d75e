/** One chart: the moving plot canvas and its overlays (gaps, late marks, live dots, crosshair). */

import { upperBound } from "../data/series_buffer";
import type { TimeRange } from "../data/time";
import { labelSpace, SteadyRange, type YRange } from "./axes";
import { type ChartSeries, ChartSeriesSet, type SeriesState, sliceColumns } from "./chart_series";
import { type Animated, EDGE_PX, type FrameBudget, type FrameScheduler } from "./frame_scheduler";
import { type Restart, restartNear } from "./intervals";
import { Marks } from "./marks";
import { axisHeight, PlotCanvas, type PlotSeries } from "./plot_canvas";
import { rem, themeVersion } from "./theme_colours";
import { TimeAxis } from "./time_axis";

/** Extra width of the canvas beyond the visible part, as a fraction of it; at least MIN_MARGIN_PX. */
const MARGIN = 0.15;
const MIN_MARGIN_PX = 64;
/** A dense chart is drawn at most this often. */
const DENSE_EVERY_MS = 1000;
/** The pointer is on the mark of a restart at this distance. */
const MARK_PX = 5;
/** The extent of the data is checked this often, so that the range can shrink. */
const EXTENT_EVERY_MS = 1000;

/** Values at the pointer, or the newest ones. */
export interface Readout {
  values: (number | null)[];
  /** Newest readings of the drawn series while the chart is live. */
  last: { colour: number; value: number }[];
}

interface ChartViewOptions {
  scheduler: FrameScheduler;
  card: HTMLElement;
  viewport: HTMLElement;
  series: ChartSeries[];
  /** True if all values are integers: grid lines between them have no meaning. */
  integers: boolean;
  /** Return the text for a time: the time itself, or why it has no readings. */
  describe(time: number): string;
  onReadout(readout: Readout): void;
  onRange(range: YRange): void;
}

export class ChartView implements Animated {
  private readonly options: ChartViewOptions;
  private readonly layer: HTMLElement;
  private readonly canvas: PlotCanvas;
  private readonly marks: Marks;
  private readonly timeAxis: TimeAxis;
  private readonly range: SteadyRange;
  private readonly series: ChartSeriesSet;
  private width = 0;
  private height = 0;
  private feed: object | null = null;
  private restarts: readonly Restart[] = [];
  private feedVersion = -1;
  private windowVersion = -1;
  private theme = -1;
  private dirty = true;
  private paintedAt = 0;
  private extentAt = 0;
  private shift = "";
  /** Nothing is visible in the range. */
  private empty = false;
  private drawnPointer: object | null = null;
  private readonly remove: () => void;

  constructor(options: ChartViewOptions) {
    this.options = options;
    this.series = new ChartSeriesSet(options.series);
    this.range = new SteadyRange(options.integers ? 1 : 0);
    this.layer = document.createElement("div");
    this.layer.className = "plot-canvas";
    options.viewport.prepend(this.layer);
    this.canvas = new PlotCanvas(this.layer);
    this.marks = new Marks(options.viewport, this.layer);
    this.timeAxis = new TimeAxis(this.layer);
    this.remove = options.scheduler.add(this, options.card);
  }

  close(): void {
    this.remove();
    this.canvas.destroy();
    this.layer.remove();
    this.marks.close();
  }

  resize(width: number, height: number): void {
    const plotted = Math.max(0, width - EDGE_PX);
    if (plotted === this.width && height === this.height) return;
    this.width = plotted;
    this.height = height;
    this.dirty = true;
    this.options.scheduler.requestFrame();
  }

  isolate(metrics: ReadonlySet<string> | null): void {
    this.series.isolate(metrics);
    this.range.reset();
    this.dirty = true;
    this.options.scheduler.requestFrame();
  }

  /** Return the gap at this time, if all shown series have one. The drawing extends an open gap; it lasts until now. */
  gapAt(time: number): TimeRange | null {
    const gap = this.marks.gaps.find(({ from, to }) => time > from && time < to);
    return gap === undefined ? null : { from: gap.from, to: Math.min(gap.to, this.options.scheduler.now()) };
  }

  lateAt(time: number): TimeRange | null {
    return this.options.scheduler.feed.late.find((late) => time >= late.from && time <= late.to) ?? null;
  }

  /** Return the restart whose mark is under this time. */
  restartAt(time: number): Restart | null {
    const { layout } = this.canvas;
    if (layout === null) return null;
    return restartNear(this.restarts, time, (MARK_PX * (layout.to - layout.from)) / layout.width);
  }

  frame(exact: TimeRange, budget: FrameBudget): number {
    if (this.width <= 0) return Number.POSITIVE_INFINITY;
    const live = this.options.scheduler.view.peek().mode === "live";
    const step = (exact.to - exact.from) / (this.width * window.devicePixelRatio);
    // Whole device pixels, counted from the same origin on every chart: lines and text stay sharp, and charts of the
    // same width move in the same frame.
    const from = live ? Math.floor(exact.from / step) * step : exact.from;
    const timeRange = { from, to: from + exact.to - exact.from };
    this.applyChanges(timeRange);
    if (!live) this.requestHistory(timeRange);
    const layout = this.canvas.layout;
    const outdated = layout === null || this.dirty || this.theme !== themeVersion.peek() || !this.fits(timeRange);
    const painted = outdated && budget.allow();
    if (painted) this.paint(timeRange, live);
    this.move(timeRange);
    this.readout(timeRange, live);
    if (outdated && !painted) return 0;
    return live ? Math.min(EXTENT_EVERY_MS, from + step - exact.from) : Number.POSITIVE_INFINITY;
  }

  /** Return whether the canvas covers the range at its scale. */
  private fits({ from, to }: TimeRange): boolean {
    const { layout } = this.canvas;
    if (layout === null) return false;
    const scale = (layout.to - layout.from) / layout.width / ((to - from) / this.width);
    return from >= layout.from && to <= layout.to && Math.abs(scale - 1) < 1e-3;
  }

  private applyChanges(timeRange: TimeRange): void {
    const { feed, window, restarts } = this.options.scheduler;
    if (this.restarts !== restarts) {
      this.restarts = restarts;
      this.marks.stale = true;
    }
    if (this.feed !== feed) {
      this.feed = feed;
      this.series.reset();
      this.dirty = true;
    }
    const now = performance.now();
    const changed = this.feedVersion !== feed.version || this.windowVersion !== window.version;
    if (changed) {
      this.feedVersion = feed.version;
      this.windowVersion = window.version;
      for (const index of this.series.all.keys()) this.updateSeries(index, now);
    }
    if (changed ? !this.dirty : now - this.extentAt > EXTENT_EVERY_MS) {
      this.followExtent(timeRange, now);
      // A gap appears when nothing arrives.
      this.marks.stale = true;
    }
  }

  private updateSeries(index: number, now: number): void {
    const { feed, window } = this.options.scheduler;
    const shownTo = this.canvas.layout?.to ?? Number.POSITIVE_INFINITY;
    const { state, change } = this.series.update(index, feed, window, shownTo);
    if (change === "replaced") this.dirty = true;
    if (change === "appended" && !this.dirty) this.append(index, state, now);
  }

  private append(index: number, state: SeriesState, now: number): void {
    this.marks.stale = true;
    if (this.canvas.isDense(index)) {
      if (now - this.paintedAt > DENSE_EVERY_MS) this.dirty = true;
      return;
    }
    this.canvas.add(index, state.columns, upperBound(state.columns.times, state.drawnTo));
    state.drawnTo = state.lastTime;
  }

  private followExtent(timeRange: TimeRange, now: number): void {
    this.extentAt = now;
    const extent = this.series.extent(timeRange);
    const empty = extent === null;
    if (empty !== this.empty) {
      this.empty = empty;
      this.options.viewport.parentElement?.classList.toggle("empty", empty);
    }
    if (extent === null) return;
    const before = this.range.current;
    const after = this.range.follow(extent[0], extent[1], now, this.lines());
    if (before !== after) this.dirty = true;
  }

  private lines(): number {
    return Math.max(2, Math.round((this.height - axisHeight()) / (2.75 * rem())));
  }

  private requestHistory({ from, to }: TimeRange): void {
    const { feed, window } = this.options.scheduler;
    for (const { metric } of this.series.all) {
      if (feed.covers(metric, from, (to - from) / this.width)) continue;
      window.request(metric, { from, to, width_px: this.width });
    }
  }

  private paint(timeRange: TimeRange, live: boolean): void {
    this.followExtent(timeRange, performance.now());
    const margin = Math.max(MIN_MARGIN_PX, Math.round(this.width * MARGIN));
    const msPerPx = (timeRange.to - timeRange.from) / this.width;
    // A live chart moves in one direction; a fixed one may be dragged in both. uPlot needs whole milliseconds for its
    // grid.
    const from = Math.floor(live ? timeRange.from : timeRange.from - margin * msPerPx);
    const to = from + (this.width + 2 * margin) * msPerPx;
    const series = this.series.states.map((state, index): PlotSeries => {
      const columns = state?.columns ?? { times: new Float64Array(0), values: new Float64Array(0) };
      if (state !== null) state.drawnTo = state.lastTime;
      return {
        colour: this.series.all[index].colour,
        shown: state !== null && this.series.isShown(index),
        columns: sliceColumns(columns, from, to),
        threshold: state?.threshold ?? Number.POSITIVE_INFINITY,
      };
    });
    const y = this.range.current ?? { min: 0, max: 1, step: 0.25 };
    this.layer.style.width = `${this.width + 2 * margin}px`;
    const width = this.width + 2 * margin;
    this.canvas.paint({
      from,
      to,
      width,
      height: this.height,
      y,
      series,
      labelSpace: labelSpace(this.options.card.clientWidth / rem(), this.width),
    });
    this.timeAxis.show(this.canvas);
    this.options.onRange(y);
    this.dirty = false;
    this.theme = themeVersion.peek();
    this.paintedAt = performance.now();
    this.shift = "";
    this.marks.stale = true;
  }

  /** Move the canvas to the current time. */
  private move(timeRange: TimeRange): void {
    const { layout } = this.canvas;
    if (layout === null) return;
    const pxPerMs = this.width / (timeRange.to - timeRange.from);
    const scale = ((layout.to - layout.from) * pxPerMs) / layout.width;
    const ratio = window.devicePixelRatio;
    const x = Math.round((layout.from - timeRange.from) * pxPerMs * ratio) / ratio;
    const shift = Math.abs(scale - 1) < 1e-3 ? `translate3d(${x}px,0,0)` : `translate3d(${x}px,0,0) scaleX(${scale})`;
    if (shift === this.shift) return;
    this.shift = shift;
    this.layer.style.transform = shift;
    this.timeAxis.move(x, scale, this.width + EDGE_PX);
  }

  private readout(timeRange: TimeRange, live: boolean): void {
    const { pointer, feed } = this.options.scheduler;
    const moved = pointer !== this.drawnPointer || (pointer !== null && live);
    if (!this.marks.stale && !moved) return;
    this.drawnPointer = pointer;
    const ends = this.series.ends();
    if (this.marks.stale) {
      this.marks.stale = false;
      const { restarts } = this.options.scheduler;
      this.marks.show(this.canvas, ends, { gaps: this.currentGaps(), late: feed.late, restarts, live });
    }
    const time = pointer === null ? null : timeRange.from + pointer.fraction * (timeRange.to - timeRange.from);
    const own = pointer?.source === this && time !== null;
    this.marks.moveCrosshair(
      pointer === null ? null : pointer.fraction * this.width,
      own ? this.options.describe(time) : null,
    );
    const msPerPx = (timeRange.to - timeRange.from) / this.width;
    const values =
      time === null
        ? this.series.valuesUpTo(live ? Number.POSITIVE_INFINITY : timeRange.to)
        : this.series.valuesNear(time, msPerPx);
    const last = live ? ends.filter(({ value }) => !Number.isNaN(value)) : [];
    this.options.onReadout({ values, last });
  }

  private currentGaps(): TimeRange[] {
    const { layout } = this.canvas;
    const { scheduler } = this.options;
    return layout === null ? [] : this.series.gaps(layout, scheduler.now(), scheduler.offlineSince);
  }
}

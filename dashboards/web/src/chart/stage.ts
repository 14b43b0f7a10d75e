/** One chart as it is seen: the moving sheet, and what lies over it: gaps, late marks, live dots, value tags, crosshair. */

import { upperBound } from "../data/series_buffer";
import type { Stretch } from "../data/stretch";
import { between } from "./compose";
import { type Budget, type Conductor, EDGE_PX, type Player } from "./conductor";
import type { HeldSeries } from "./held_series";
import { Marks } from "./marks";
import { axisHeight, Sheet, type SheetSeries } from "./sheet";
import { type ChartSeries, ShownSeries } from "./shown_series";
import { rem, themeVersion } from "./theme_colours";
import { SteadyRange, type YRange } from "./y_range";

/** The sheet is this much wider than what is seen, in parts of it; at least MIN_MARGIN_PX. */
const MARGIN = 0.15;
const MIN_MARGIN_PX = 64;
/** A dense chart is drawn anew at most this often. */
const DENSE_EVERY_MS = 1000;
/** The data's extent is looked at this often, to let the range shrink. */
const EXTENT_EVERY_MS = 1000;

/** What the rest of the chart shows of a moment: the readings at the pointer, or the newest ones. */
export interface Readout {
  time: number | null;
  values: (number | null)[];
  /** The newest readings of the series that are drawn, while the chart is live. */
  last: { colour: number; value: number }[];
}

export interface StageOptions {
  conductor: Conductor;
  viewport: HTMLElement;
  series: ChartSeries[];
  /** What is to be said of a moment: its time, or why nothing is there. */
  describe(time: number): string;
  onReadout(readout: Readout): void;
  onRange(range: YRange): void;
}

export class Stage implements Player {
  visible = false;
  private readonly options: StageOptions;
  private readonly layer: HTMLElement;
  private readonly sheet: Sheet;
  private readonly marks: Marks;
  private readonly range = new SteadyRange();
  private readonly series: ShownSeries;
  private width = 0;
  private height = 0;
  private feed: object | null = null;
  private feedVersion = -1;
  private windowVersion = -1;
  private theme = -1;
  private dirty = true;
  private paintedAt = 0;
  private extentAt = 0;
  private shift = "";
  /** Whether there is nothing to see in the stretch. */
  private empty = false;
  private pointerSeen: object | null = null;
  private readonly remove: () => void;

  constructor(options: StageOptions) {
    this.options = options;
    this.series = new ShownSeries(options.series);
    this.layer = document.createElement("div");
    this.layer.className = "sheet";
    options.viewport.prepend(this.layer);
    this.sheet = new Sheet(this.layer);
    this.marks = new Marks(options.viewport, this.layer);
    this.remove = options.conductor.add(this);
  }

  close(): void {
    this.remove();
    this.sheet.destroy();
    this.layer.remove();
    this.marks.close();
  }

  resize(width: number, height: number): void {
    const plotted = Math.max(0, width - EDGE_PX);
    if (plotted === this.width && height === this.height) return;
    this.width = plotted;
    this.height = height;
    this.dirty = true;
    this.options.conductor.request();
  }

  isolate(metrics: ReadonlySet<string> | null): void {
    this.series.isolate(metrics);
    this.range.reset();
    this.dirty = true;
    this.options.conductor.request();
  }

  /** The gap at this time, when all that is shown has none there. */
  gapAt(time: number): Stretch | null {
    return this.marks.gaps.find((gap) => time > gap.from && time < gap.to) ?? null;
  }

  lateAt(time: number): Stretch | null {
    return this.options.conductor.feed.late.find((late) => time >= late.from && time <= late.to) ?? null;
  }

  frame(exact: Stretch, budget: Budget): number {
    if (this.width <= 0) return Number.POSITIVE_INFINITY;
    const live = this.options.conductor.view.peek().mode === "live";
    const step = (exact.to - exact.from) / (this.width * window.devicePixelRatio);
    // Whole device pixels, counted from the same zero on every chart: lines and letters stay sharp, and charts of the same
    // width all move in the same frame.
    const from = live ? Math.floor(exact.from / step) * step : exact.from;
    const stretch = { from, to: from + exact.to - exact.from };
    this.takeChanges(stretch);
    if (!live) this.wantHistory(stretch);
    const plan = this.sheet.plan;
    const late = plan === null || this.dirty || this.theme !== themeVersion || !this.fits(stretch);
    const painted = late && budget.take();
    if (painted) this.paint(stretch, live);
    this.move(stretch);
    this.readout(stretch, live);
    if (late && !painted) return 0;
    return live ? Math.min(EXTENT_EVERY_MS, from + step - exact.from) : Number.POSITIVE_INFINITY;
  }

  /** Whether the sheet covers what is to be seen at the scale it was drawn for. */
  private fits({ from, to }: Stretch): boolean {
    const { plan } = this.sheet;
    if (plan === null) return false;
    const scale = (plan.to - plan.from) / plan.width / ((to - from) / this.width);
    return from >= plan.from && to <= plan.to && Math.abs(scale - 1) < 1e-3;
  }

  private takeChanges(stretch: Stretch): void {
    const { feed, window } = this.options.conductor;
    if (this.feed !== feed) {
      this.feed = feed;
      this.series.forget();
      this.dirty = true;
    }
    const now = performance.now();
    const changed = this.feedVersion !== feed.version || this.windowVersion !== window.version;
    if (changed) {
      this.feedVersion = feed.version;
      this.windowVersion = window.version;
      for (const index of this.series.all.keys()) this.takeSeries(index, now);
    }
    if (changed ? !this.dirty : now - this.extentAt > EXTENT_EVERY_MS) {
      this.followExtent(stretch, now);
      // Silence is seen when nothing comes.
      this.marks.stale = true;
    }
  }

  private takeSeries(index: number, now: number): void {
    const { feed, window } = this.options.conductor;
    const shownTo = this.sheet.plan?.to ?? Number.POSITIVE_INFINITY;
    const { held, change } = this.series.look(index, feed, window, shownTo);
    if (change === "replaced") this.dirty = true;
    if (change === "appended" && !this.dirty) this.append(index, held, now);
  }

  private append(index: number, held: HeldSeries, now: number): void {
    this.marks.stale = true;
    if (this.sheet.isDense(index)) {
      if (now - this.paintedAt > DENSE_EVERY_MS) this.dirty = true;
      return;
    }
    this.sheet.add(index, held.columns, upperBound(held.columns.times, held.drawnTo));
    held.drawnTo = held.lastTime;
  }

  private followExtent(stretch: Stretch, now: number): void {
    this.extentAt = now;
    const seen = this.series.extent(stretch);
    const empty = seen === null;
    if (empty !== this.empty) {
      this.empty = empty;
      this.options.viewport.parentElement?.classList.toggle("empty", empty);
    }
    if (seen === null) return;
    const before = this.range.current;
    const after = this.range.follow(seen[0], seen[1], now, this.lines());
    if (before !== after) this.dirty = true;
  }

  private lines(): number {
    return Math.max(2, Math.round((this.height - axisHeight()) / (2.75 * rem())));
  }

  private wantHistory({ from, to }: Stretch): void {
    const { feed, window } = this.options.conductor;
    for (const { metric } of this.series.all) {
      if (feed.holds(metric, from, (to - from) / this.width)) continue;
      window.want(metric, { from, to, width_px: this.width });
    }
  }

  private paint(stretch: Stretch, live: boolean): void {
    this.followExtent(stretch, performance.now());
    const margin = Math.max(MIN_MARGIN_PX, Math.round(this.width * MARGIN));
    const msPerPx = (stretch.to - stretch.from) / this.width;
    // What is live moves one way only; what stands still may be dragged both ways.
    // Whole milliseconds: uPlot counts its grid from there.
    const from = Math.floor(live ? stretch.from : stretch.from - margin * msPerPx);
    const to = from + (this.width + 2 * margin) * msPerPx;
    const series = this.series.held.map((held, index): SheetSeries => {
      const columns = held?.columns ?? { times: new Float64Array(0), values: new Float64Array(0) };
      if (held !== null) held.drawnTo = held.lastTime;
      return {
        colour: this.series.all[index].colour,
        shown: held !== null && this.series.isShown(index),
        columns: between(columns, from, to),
        threshold: held?.threshold ?? Number.POSITIVE_INFINITY,
      };
    });
    const y = this.range.current ?? { min: 0, max: 1, step: 0.25 };
    this.layer.style.width = `${this.width + 2 * margin}px`;
    this.sheet.paint({ from, to, width: this.width + 2 * margin, height: this.height, y, series });
    this.options.onRange(y);
    this.dirty = false;
    this.theme = themeVersion;
    this.paintedAt = performance.now();
    this.shift = "";
    this.marks.stale = true;
  }

  /** Puts the sheet where its time is now. */
  private move(stretch: Stretch): void {
    const { plan } = this.sheet;
    if (plan === null) return;
    const pxPerMs = this.width / (stretch.to - stretch.from);
    const scale = ((plan.to - plan.from) * pxPerMs) / plan.width;
    const ratio = window.devicePixelRatio;
    const x = Math.round((plan.from - stretch.from) * pxPerMs * ratio) / ratio;
    const shift =
      Math.abs(scale - 1) < 1e-3 ? `translate3d(${x}px,0,0)` : `translate3d(${x}px,0,0) scaleX(${scale})`;
    if (shift === this.shift) return;
    this.shift = shift;
    this.layer.style.transform = shift;
  }

  private readout(stretch: Stretch, live: boolean): void {
    const { pointer, feed } = this.options.conductor;
    const moved = pointer !== this.pointerSeen || (pointer !== null && live);
    if (!this.marks.stale && !moved) return;
    this.pointerSeen = pointer;
    const ends = this.series.ends();
    if (this.marks.stale) {
      this.marks.stale = false;
      this.marks.show(this.sheet, ends, { gaps: this.currentGaps(), late: feed.late, live });
    }
    const time = pointer === null ? null : stretch.from + pointer.part * (stretch.to - stretch.from);
    const own = pointer?.source === this && time !== null;
    this.marks.point(
      pointer === null ? null : pointer.part * this.width,
      own ? this.options.describe(time) : null,
    );
    const msPerPx = (stretch.to - stretch.from) / this.width;
    const values =
      time === null
        ? this.series.valuesUpTo(live ? Number.POSITIVE_INFINITY : stretch.to)
        : this.series.valuesNear(time, msPerPx);
    const last = live ? ends.filter(({ value }) => !Number.isNaN(value)) : [];
    this.options.onReadout({ time, values, last });
  }

  private currentGaps(): Stretch[] {
    const { plan } = this.sheet;
    return plan === null ? [] : this.series.gaps(plan, this.options.conductor.now());
  }
}

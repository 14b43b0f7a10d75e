/**
 * The paper a chart's lines are drawn on: wider than what is seen of it, so that it can be moved along with the time instead of being
 * drawn anew sixty times a second. uPlot draws the sheet (axes, grid, lines); readings that come after that are added to the
 * drawing where it ends. Measured with 50 series of 300 readings: a sheet takes about 20 ms without a graphics card, adding one
 * reading to each series 0.4 ms.
 */

import uPlot from "uplot";
import { hubNow } from "../data/hub_clock";
import type { Columns } from "../data/series_buffer";
import { DENSE, envelope } from "./envelope";
import { bandPath, type LinePath, linePath, type Mapping, xOf, yOf } from "./line_path";
import { rem, SERIES_COLOURS, themeColours, withAlpha } from "./theme_colours";
import { timeLabels } from "./time_labels";
import { ticks, type YRange } from "./y_range";

export const LINE_WIDTH = 1.5;
const AREA_ALPHA = 0.06;
const BAND_ALPHA = 0.15;
const AXIS_FONT = '"Inter Variable", system-ui, sans-serif';
/** Room above the plot so that a line along the upper edge is not cut. */
export const TOP_PADDING = 6;

/** A sheet up to this wide belongs to a phone's chart: 26 rem of it are seen, the rest is margin. */
const NARROW_REM = 34;

/** Height of the time axis below the plot, 1.25 rem; in the style sheet, too. */
export function axisHeight(): number {
  return 1.25 * rem();
}

export interface SheetSeries {
  colour: number;
  shown: boolean;
  columns: Columns;
  threshold: number;
}

export interface SheetPlan {
  from: number;
  to: number;
  width: number;
  height: number;
  y: YRange;
  series: SheetSeries[];
}

export class Sheet {
  plan: SheetPlan | null = null;
  private plot: uPlot | null = null;
  private dense: boolean[] = [];
  private readonly host: HTMLElement;

  constructor(host: HTMLElement) {
    this.host = host;
  }

  destroy(): void {
    this.plot?.destroy();
    this.plot = null;
  }

  /** Whether a series has more readings than columns, so that readings cannot be added to the drawing one by one. */
  isDense(index: number): boolean {
    return this.dense[index] === true;
  }

  /** Draws all of it. */
  paint(plan: SheetPlan): void {
    this.plan = plan;
    this.plot ??= this.create(plan);
    const plot = this.plot;
    if (plot.width !== plan.width || plot.height !== plan.height)
      plot.setSize({ width: plan.width, height: plan.height });
    plot.batch(() => {
      plot.setScale("x", { min: plan.from, max: plan.to });
      plot.setScale("y", { min: plan.y.min, max: plan.y.max });
    });
  }

  /** Adds the readings from position `first` on to the line of a series, as far as they fit on the sheet. */
  add(index: number, columns: Columns, first: number): void {
    const { plot, plan } = this;
    if (plot === null || plan === null || !plan.series[index].shown) return;
    const start = Math.max(0, first - 1);
    const tail = { times: columns.times.subarray(start), values: columns.values.subarray(start) };
    const { area } = this.style(plan);
    const path = linePath(tail, this.mapping(plot, plan), plan.series[index].threshold, area);
    const { ctx } = plot;
    ctx.save();
    ctx.beginPath();
    ctx.rect(plot.bbox.left, 0, plot.bbox.width, plot.bbox.top + plot.bbox.height);
    ctx.clip();
    this.stroke(ctx, index, path, AREA_ALPHA);
    ctx.restore();
  }

  /** Where a reading is on the sheet, in CSS pixels from its upper left corner. */
  position(time: number, value: number): { x: number; y: number } | null {
    const { plot, plan } = this;
    if (plot === null || plan === null) return null;
    const mapping = this.mapping(plot, plan);
    const ratio = window.devicePixelRatio;
    return { x: xOf(mapping, time) / ratio, y: yOf(mapping, value) / ratio };
  }

  private style(plan: SheetPlan): { area: boolean } {
    return { area: plan.series.filter((series) => series.shown).length === 1 };
  }

  private stroke(ctx: CanvasRenderingContext2D, index: number, path: LinePath, fillAlpha: number): void {
    const plan = this.plan as SheetPlan;
    const colour = themeColours().series[plan.series[index].colour % SERIES_COLOURS];
    if (path.fill !== null) {
      ctx.fillStyle = withAlpha(colour, fillAlpha);
      ctx.fill(path.fill);
    }
    ctx.strokeStyle = colour;
    ctx.lineWidth = LINE_WIDTH * window.devicePixelRatio;
    ctx.lineJoin = "round";
    ctx.lineCap = "round";
    ctx.stroke(path.stroke);
  }

  private mapping(plot: uPlot, plan: SheetPlan): Mapping {
    const { left, top, width, height } = plot.bbox;
    return {
      x0: left,
      from: plan.from,
      xPerMs: width / (plan.to - plan.from),
      y0: top + height,
      min: plan.y.min,
      yPerUnit: height / (plan.y.max - plan.y.min),
      bottom: top + height,
    };
  }

  private pathOf(plot: uPlot, index: number): LinePath {
    const plan = this.plan as SheetPlan;
    const { columns, threshold } = plan.series[index];
    const mapping = this.mapping(plot, plan);
    const pixels = Math.max(1, Math.round(plan.width));
    this.dense[index] = columns.times.length > pixels * DENSE;
    if (!this.dense[index]) return linePath(columns, mapping, threshold, this.style(plan).area);
    const reduced = envelope(columns.times, columns.values, plan.from, plan.to, pixels);
    // Neighbouring columns are up to two columns apart.
    return bandPath(reduced, mapping, Math.max(threshold, ((plan.to - plan.from) / pixels) * 2.5));
  }

  private create(plan: SheetPlan): uPlot {
    const axisColour = () => themeColours().axis;
    const gridColour = () => themeColours().grid;
    return new uPlot(
      {
        width: plan.width,
        height: plan.height,
        ms: 1,
        padding: [TOP_PADDING, 0, 0, 0],
        cursor: { show: false },
        legend: { show: false },
        scales: {
          x: { time: true, auto: false },
          y: { auto: false },
        },
        axes: [
          {
            scale: "x",
            size: axisHeight(),
            gap: 4,
            // A narrow chart has its labels closer together, rather than one alone.
            space: (_, _axis, _min, _max, width) => (width < NARROW_REM * rem() ? 3 : 5.25) * rem(),
            font: `${0.6875 * rem()}px ${AXIS_FONT}`,
            stroke: axisColour,
            grid: { stroke: gridColour, width: 1 },
            ticks: { show: false },
            values: (_, times, _axis, _space, step) => timeLabels(times, step, hubNow()),
          },
          {
            scale: "y",
            size: 0,
            splits: () => ticks((this.plan as SheetPlan).y),
            values: () => [],
            grid: { stroke: gridColour, width: 1 },
            ticks: { show: false },
          },
        ],
        // Lines are drawn in the hook below, the same way as what is added later; uPlot knows one empty series.
        series: [{}, { scale: "y", points: { show: false } }],
        hooks: {
          draw: [
            (plot) => {
              const { ctx, bbox } = plot;
              ctx.save();
              ctx.beginPath();
              ctx.rect(bbox.left, 0, bbox.width, bbox.top + bbox.height);
              ctx.clip();
              (this.plan as SheetPlan).series.forEach((series, index) => {
                if (!series.shown) return;
                const path = this.pathOf(plot, index);
                this.stroke(ctx, index, path, this.dense[index] ? BAND_ALPHA : AREA_ALPHA);
              });
              ctx.restore();
            },
          ],
        },
      },
      [
        [plan.from, plan.to],
        [null, null],
      ],
      this.host,
    );
  }
}

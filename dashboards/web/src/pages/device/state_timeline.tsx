/** State timeline: coloured bands for string and boolean metrics. */

import { useEffect, useRef } from "preact/hooks";
import { sliceColumns } from "../../chart/chart_series";
import { type Animated, EDGE_PX, type FrameBudget } from "../../chart/frame_scheduler";
import { attachGestures } from "../../chart/gestures";
import { findGaps, gapThreshold, silenceStart, stateBands } from "../../chart/intervals";
import { setText } from "../../chart/marks";
import { CANVAS_FONT, isOff, rem, stateColour, themeColours, themeVersion, withAlpha } from "../../chart/theme_colours";
import type { MetricHead } from "../../data/metrics";
import { upperBound } from "../../data/series_buffer";
import type { TimeRange } from "../../data/time";
import { visible } from "../../data/visible_text";
import type { DeviceData } from "./device_data";
import { StaleAge } from "./values";

const LABEL_PADDING = 6;
const BAND_ALPHA = 0.26;

interface TimelineProps {
  data: DeviceData;
  head: MetricHead;
  stale: boolean;
}

export function StateTimeline({ data, head, stale }: TimelineProps) {
  const row = useRef<HTMLElement>(null);
  const viewport = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const crosshair = useRef<HTMLDivElement>(null);
  const state = useRef<HTMLSpanElement>(null);
  useEffect(() => {
    if (viewport.current === null || canvas.current === null || row.current === null) return;
    const animated = new AnimatedTimeline(data, head, canvas.current, (text, pointerX) => {
      if (state.current === null || crosshair.current === null) return;
      setText(state.current, text);
      crosshair.current.hidden = pointerX === null;
      if (pointerX !== null) crosshair.current.style.transform = `translateX(${Math.round(pointerX)}px)`;
    });
    const remove = data.scheduler.add(animated, row.current);
    const detach = attachGestures(viewport.current, data.scheduler, animated);
    const sizes = new ResizeObserver(() => data.scheduler.requestFrame());
    sizes.observe(viewport.current);
    return () => {
      remove();
      detach();
      sizes.disconnect();
    };
  }, [data, head]);
  return (
    <section class={`timeline ${stale ? "stale" : ""}`} ref={row} data-testid="timeline" data-metric={head.metric}>
      <h3 class="ellipsis" title={head.description || head.metric}>
        {head.metric}
        {stale && <StaleAge data={data} head={head} />}
      </h3>
      <div class="viewport" ref={viewport} role="img" tabIndex={0} aria-label={`States of ${head.metric} over time`}>
        <canvas ref={canvas} />
        <div class="crosshair" ref={crosshair} hidden />
      </div>
      <span class="state ellipsis" ref={state} data-testid="state">
        –
      </span>
    </section>
  );
}

/** Show the state at the pointer, or the newest one. */
type Show = (text: string, pointerX: number | null) => void;

class AnimatedTimeline implements Animated {
  private readonly data: DeviceData;
  private readonly head: MetricHead;
  private readonly canvas: HTMLCanvasElement;
  private readonly show: Show;
  private drawn = "";
  private gaps: TimeRange[] = [];

  constructor(data: DeviceData, head: MetricHead, canvas: HTMLCanvasElement, show: Show) {
    this.data = data;
    this.head = head;
    this.canvas = canvas;
    this.show = show;
  }

  frame(timeRange: TimeRange, budget: FrameBudget): number {
    const { scheduler } = this.data;
    const width = this.canvas.clientWidth - EDGE_PX;
    if (width <= 0) return Number.POSITIVE_INFINITY;
    const msPerPx = (timeRange.to - timeRange.from) / width;
    const feed = scheduler.feed;
    if (scheduler.view.peek().mode === "fixed" && !feed.covers(this.head.metric, timeRange.from, msPerPx))
      scheduler.window.request(this.head.metric, { ...timeRange, width_px: width });
    // Bands move by whole pixels: between two pixels nothing changes.
    const versions = [feed.version, scheduler.window.version, themeVersion.peek(), scheduler.offlineSince];
    const key = [Math.floor(timeRange.from / msPerPx), msPerPx, this.canvas.clientHeight, ...versions].join(" ");
    const outdated = key !== this.drawn;
    const painted = outdated && budget.allow();
    if (painted) {
      this.drawn = key;
      this.paint(timeRange);
    }
    const { pointer } = scheduler;
    const time = pointer === null ? timeRange.to : timeRange.from + pointer.fraction * (timeRange.to - timeRange.from);
    const inGap = pointer !== null && this.gaps.some((gap) => time > gap.from && time < gap.to);
    this.show(inGap ? "–" : this.stateAt(time), pointer === null ? null : pointer.fraction * width);
    if (outdated && !painted) return 0;
    return scheduler.view.peek().mode === "live" ? msPerPx : Number.POSITIVE_INFINITY;
  }

  private stateAt(time: number): string {
    const columns = this.data.columnsOf(this.head.metric);
    const index = upperBound(columns.times, time) - 1;
    return index < 0 ? "–" : this.name(columns.values[index]);
  }

  private name(code: number): string {
    if (Number.isNaN(code)) return "–";
    if (this.head.type === "boolean") return code > 0 ? "on" : "off";
    return visible(this.data.scheduler.feed.bufferOf(this.head.metric).textOf(code) ?? "–");
  }

  private paint(timeRange: TimeRange): void {
    const ratio = window.devicePixelRatio;
    const { clientWidth, clientHeight: height } = this.canvas;
    const width = clientWidth - EDGE_PX;
    this.canvas.width = Math.round(clientWidth * ratio);
    this.canvas.height = Math.round(height * ratio);
    const context = this.canvas.getContext("2d");
    const columns = this.data.columnsOf(this.head.metric);
    if (context === null) return;
    context.scale(ratio, ratio);
    const theme = themeColours();
    context.font = `500 ${0.6875 * rem()}px ${CANVAS_FONT}`;
    context.textBaseline = "middle";
    const shown = sliceColumns(columns, timeRange.from, timeRange.to);
    const { offlineSince } = this.data.scheduler;
    const threshold = gapThreshold(columns.times);
    const bands = stateBands(shown, { ...timeRange, threshold, offlineSince });
    const msPerPx = (timeRange.to - timeRange.from) / width;
    this.gaps = findGaps(shown.times, threshold);
    const last = shown.times.at(-1);
    const silent = last === undefined ? null : silenceStart(last, { now: timeRange.to, threshold, offlineSince });
    if (silent !== null) this.gaps.push({ from: silent, to: timeRange.to });
    for (const { from, to } of this.gaps) {
      const x = Math.max(0, (from - timeRange.from) / msPerPx);
      hatch(context, x, Math.min(width, (to - timeRange.from) / msPerPx) - x, height);
    }
    for (const { from, to, value } of bands) {
      const x = Math.max(0, (from - timeRange.from) / msPerPx);
      const wide = Math.min(width, (to - timeRange.from) / msPerPx) - x;
      const off = isOff(this.head.type, value);
      const colour = stateColour(this.head.type, value);
      context.fillStyle = withAlpha(colour, off ? 0.1 : BAND_ALPHA);
      context.fillRect(x, 2, Math.max(1, wide - 1), height - 4);
      context.fillStyle = withAlpha(colour, off ? 0.35 : 1);
      context.fillRect(x, height - 4, Math.max(1, wide - 1), 2);
      const text = this.name(value);
      if (context.measureText(text).width + 2 * LABEL_PADDING > wide) continue;
      context.fillStyle = off ? theme.axis : theme.text;
      context.fillText(text, x + LABEL_PADDING, height / 2);
    }
  }
}

/** Distance of the lines of a gap, the same as in the charts' style sheet. */
const HATCH_PX = 7 * Math.SQRT2;

/** Draw a gap as in the charts: nothing is known about the state. */
function hatch(context: CanvasRenderingContext2D, x: number, width: number, height: number): void {
  if (width <= 0) return;
  context.save();
  context.beginPath();
  context.rect(x, 2, width, height - 4);
  context.clip();
  context.strokeStyle = themeColours().hatch;
  context.beginPath();
  for (let foot = Math.floor((x - height) / HATCH_PX) * HATCH_PX; foot < x + width; foot += HATCH_PX) {
    context.moveTo(foot, height);
    context.lineTo(foot + height, 0);
  }
  context.stroke();
  context.restore();
}

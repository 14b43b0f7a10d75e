/** A state over time: coloured bands with their names, for strings and for what is on or off. */

import { useEffect, useRef } from "preact/hooks";
import { type Budget, EDGE_PX, type Player } from "../../chart/conductor";
import { gapThreshold } from "../../chart/gaps";
import { attachGestures } from "../../chart/gestures";
import { bandsOf } from "../../chart/state_bands";
import { rem, SERIES_COLOURS, themeColours, withAlpha } from "../../chart/theme_colours";
import type { MetricHead } from "../../data/metrics";
import { lowerBound, upperBound } from "../../data/series_buffer";
import type { Stretch } from "../../data/stretch";
import { colours } from "../../ui/theme";
import type { DeviceData } from "./device_data";

const FONT = '"Inter Variable", system-ui, sans-serif';
const LABEL_PADDING = 6;
const BAND_ALPHA = 0.26;

export function StateTimeline({ data, head }: { data: DeviceData; head: MetricHead }) {
  const row = useRef<HTMLElement>(null);
  const viewport = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const crosshair = useRef<HTMLDivElement>(null);
  const state = useRef<HTMLSpanElement>(null);
  const theme = colours.value;
  useEffect(() => {
    if (viewport.current === null || canvas.current === null || row.current === null) return;
    const player = new TimelinePlayer(data, head, canvas.current, (text, pointerX) => {
      if (state.current !== null && state.current.textContent !== text) state.current.textContent = text;
      if (crosshair.current === null) return;
      crosshair.current.hidden = pointerX === null;
      if (pointerX !== null) crosshair.current.style.transform = `translateX(${Math.round(pointerX)}px)`;
    });
    const remove = data.conductor.add(player);
    const detach = attachGestures(viewport.current, data.conductor, player);
    const sight = new IntersectionObserver(([entry]) => {
      player.visible = entry.isIntersecting;
      data.conductor.request();
    });
    sight.observe(row.current);
    const sizes = new ResizeObserver(() => {
      player.dirty = true;
      data.conductor.request();
    });
    sizes.observe(viewport.current);
    return () => {
      remove();
      detach();
      sight.disconnect();
      sizes.disconnect();
    };
  }, [data, head, theme]);
  return (
    <section class="timeline" ref={row} data-testid="timeline" data-metric={head.metric}>
      <h3 class="ellipsis" title={head.description || head.metric}>
        {head.metric}
      </h3>
      <div
        class="viewport"
        ref={viewport}
        role="img"
        tabIndex={0}
        aria-label={`States of ${head.metric} over time`}
      >
        <canvas ref={canvas} />
        <div class="crosshair" ref={crosshair} hidden />
      </div>
      <span class="state ellipsis" ref={state} data-testid="state">
        –
      </span>
    </section>
  );
}

class TimelinePlayer implements Player {
  visible = false;
  dirty = true;
  private readonly data: DeviceData;
  private readonly head: MetricHead;
  private readonly canvas: HTMLCanvasElement;
  private readonly show: (text: string, pointerX: number | null) => void;
  private drawn = "";

  constructor(
    data: DeviceData,
    head: MetricHead,
    canvas: HTMLCanvasElement,
    show: (text: string, pointerX: number | null) => void,
  ) {
    this.data = data;
    this.head = head;
    this.canvas = canvas;
    this.show = show;
  }

  frame(stretch: Stretch, budget: Budget): number {
    const { conductor } = this.data;
    const width = this.canvas.clientWidth - EDGE_PX;
    if (width <= 0) return Number.POSITIVE_INFINITY;
    const msPerPx = (stretch.to - stretch.from) / width;
    const feed = conductor.feed;
    if (conductor.view.peek().mode === "fixed" && !feed.holds(this.head.metric, stretch.from, msPerPx))
      conductor.window.want(this.head.metric, { ...stretch, width_px: width });
    // Bands move in whole pixels: between two of them nothing changes.
    const key = `${Math.floor(stretch.from / msPerPx)} ${msPerPx} ${feed.version} ${conductor.window.version}`;
    const late = this.dirty || key !== this.drawn;
    const painted = late && budget.take();
    if (painted) {
      this.drawn = key;
      this.dirty = false;
      this.paint(stretch);
    }
    const { pointer } = conductor;
    const time = pointer === null ? stretch.to : stretch.from + pointer.part * (stretch.to - stretch.from);
    this.show(this.stateAt(time), pointer === null ? null : pointer.part * width);
    if (late && !painted) return 0;
    return conductor.view.peek().mode === "live" ? msPerPx : Number.POSITIVE_INFINITY;
  }

  private stateAt(time: number): string {
    const columns = this.data.columnsOf(this.head.metric);
    const index = upperBound(columns.times, time) - 1;
    return index < 0 ? "–" : this.name(columns.values[index]);
  }

  private name(code: number): string {
    if (Number.isNaN(code)) return "–";
    if (this.head.type === "boolean") return code > 0 ? "on" : "off";
    return this.data.conductor.feed.bufferOf(this.head.metric).textOf(code) ?? "–";
  }

  private paint(stretch: Stretch): void {
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
    context.font = `500 ${0.6875 * rem()}px ${FONT}`;
    context.textBaseline = "middle";
    const first = Math.max(0, lowerBound(columns.times, stretch.from) - 1);
    const end = upperBound(columns.times, stretch.to) + 1;
    const bands = bandsOf(
      { times: columns.times.subarray(first, end), values: columns.values.subarray(first, end) },
      { ...stretch, threshold: gapThreshold(columns.times) },
    );
    const msPerPx = (stretch.to - stretch.from) / width;
    for (const { from, to, value } of bands) {
      const x = Math.max(0, (from - stretch.from) / msPerPx);
      const wide = Math.min(width, (to - stretch.from) / msPerPx) - x;
      const off = this.head.type === "boolean" && value === 0;
      const colour = off ? theme.axis : theme.series[this.colour(value)];
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

  private colour(value: number): number {
    return this.head.type === "boolean" ? 0 : value % SERIES_COLOURS;
  }
}

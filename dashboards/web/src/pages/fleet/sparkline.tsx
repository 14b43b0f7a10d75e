/** Sparkline: the last minutes of a metric. */

import { useEffect, useRef } from "preact/hooks";
import { gapThreshold, stateBands } from "../../chart/intervals";
import { drawPath, extent, type Mapping, seriesPath, toX, toY } from "../../chart/line_path";
import { isOff, SERIES_COLOURS, stateColour, themeColours, themeVersion, withAlpha } from "../../chart/theme_colours";
import { isState, type MetricHead } from "../../data/metrics";
import type { SeriesBuffer } from "../../data/series_buffer";

interface SparklineProps {
  buffer: SeriesBuffer;
  colour: number;
  span_ms: number;
  /** Time at the right edge. */
  to: number;
  type: MetricHead["type"];
  /** When the device went offline, by the hub's clock; null while it is connected. */
  offlineSince: number | null;
}

const PADDING = 3;
const STATE_ALPHA = 0.55;
const OFF_ALPHA = 0.3;

/** Draw again whenever the row is rendered: after new readings, and each second. */
export function Sparkline(props: SparklineProps) {
  const canvas = useRef<HTMLCanvasElement>(null);
  void themeVersion.value;
  useEffect(() => {
    if (canvas.current !== null) draw(canvas.current, props);
  });
  return <canvas ref={canvas} class="sparkline" />;
}

function draw(canvas: HTMLCanvasElement, props: SparklineProps): void {
  const { buffer, colour, span_ms, to, type } = props;
  const ratio = window.devicePixelRatio;
  const width = Math.round(canvas.clientWidth * ratio);
  const height = Math.round(canvas.clientHeight * ratio);
  if (width === 0) return;
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  const context = canvas.getContext("2d");
  if (context === null) return;
  context.clearRect(0, 0, width, height);
  if (buffer.length === 0) return;
  const { times, values } = buffer;
  const stroke = themeColours().series[colour % SERIES_COLOURS];
  const [low, high] = extent(values) ?? [0, 1];
  const flat = high - low <= Math.abs(high) * 1e-9;
  const padding = PADDING * ratio;
  const right = width - padding;
  const usable = height - 2 * padding;
  const mapping: Mapping = {
    x0: 0,
    from: to - span_ms,
    xPerMs: right / span_ms,
    y0: flat ? height / 2 : height - padding,
    min: low,
    yPerUnit: flat ? 0 : usable / (high - low),
    bottom: height,
  };
  if (isState(type)) {
    drawStates(context, props, mapping);
    return;
  }
  const pixels = Math.floor(right / ratio);
  const options = { mapping, to, pixels, threshold: gapThreshold(times), area: true };
  drawPath(context, seriesPath({ times, values }, options), stroke);
  const x = Math.min(right, toX(mapping, buffer.lastTime));
  const y = toY(mapping, buffer.lastValue);
  if (x <= 0 || Number.isNaN(y)) return;
  context.fillStyle = stroke;
  context.beginPath();
  context.arc(x, y, 2 * ratio, 0, 2 * Math.PI);
  context.fill();
}

/** States have no height: each is a block of its own colour. */
function drawStates(context: CanvasRenderingContext2D, props: SparklineProps, mapping: Mapping): void {
  const { buffer, to, type, offlineSince } = props;
  const timeRange = { from: mapping.from, to, threshold: gapThreshold(buffer.times), offlineSince };
  for (const band of stateBands(buffer, timeRange)) {
    const left = Math.max(0, toX(mapping, band.from));
    const alpha = isOff(type, band.value) ? OFF_ALPHA : STATE_ALPHA;
    context.fillStyle = withAlpha(stateColour(type, band.value), alpha);
    context.fillRect(left, mapping.bottom * 0.3, Math.max(1, toX(mapping, band.to) - left), mapping.bottom * 0.4);
  }
}

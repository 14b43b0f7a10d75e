/** Chart card: title, current value, plot, value axis, legend and table. */

import type { RefObject } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { YRange } from "../../chart/axes";
import { ChartView } from "../../chart/chart_view";
import type { FrameScheduler } from "../../chart/frame_scheduler";
import { attachGestures } from "../../chart/gestures";
import { gapReason } from "../../chart/intervals";
import { seriesClass } from "../../chart/theme_colours";
import { ApiError, fetchCsv } from "../../data/api";
import { hub } from "../../data/hub";
import { type ChartGroup, colourOf, type MetricHead } from "../../data/metrics";
import { commonFormat, formatValue, type NumberFormat } from "../../data/number_format";
import { clock } from "../../data/time";
import { saveFile } from "../../ui/controls";
import { Icon } from "../../ui/icon";
import { colourVersion } from "../../ui/preferences";
import { ChartTable } from "./chart_table";
import type { DeviceData } from "./device_data";
import { Legend, type LegendOrder } from "./legend";
import { ValueAxis } from "./value_axis";

interface ChartCardProps {
  data: DeviceData;
  group: ChartGroup;
  /** All metrics of the device: the position of a metric determines its colour. */
  heads: readonly MetricHead[];
}

export function ChartCard(props: ChartCardProps) {
  const { data, group, heads } = props;
  const [table, setTable] = useState(false);
  const { elements, chart } = useChart(props, table);
  const many = group.metrics.length > 1;
  const title = group.title || (group.unit === "" ? "Without unit" : `All in ${group.unit}`);
  const download = useDownload(data, group, title);
  return (
    <section
      class={`chart ${many ? "many" : ""}`}
      ref={elements.card}
      data-testid="chart"
      data-metric={group.metrics[0].metric}
    >
      <header class="chart-head">
        {!many && <span class={`swatch ${seriesClass(colourOf(heads, group.metrics[0].metric))}`} />}
        <h3 class="ellipsis" title={title}>
          {title}
        </h3>
        <span class="description ellipsis">
          {many ? `${group.metrics.length} series` : group.metrics[0].description}
        </span>
        <ChartTools title={title} table={table} setTable={setTable} download={download} />
        <span class="readout number">
          {!many && !table && <span ref={elements.readout}>–</span>}
          <span class="unit" ref={elements.unit}>
            {group.unit}
          </span>
        </span>
      </header>
      <DownloadProblem download={download} />
      {table ? (
        <ChartTable data={data} group={group} />
      ) : (
        <div class="plot">
          <div class="viewport" ref={elements.viewport} role="img" tabIndex={0} aria-label={labelOf(group)} />
          <div class="y-axis" ref={elements.axis} aria-hidden="true" />
          {!data.ready.value && <p class="plot-note">Loading</p>}
        </div>
      )}
      {many && !table && <ChartLegend host={elements.legend} chart={chart} />}
    </section>
  );
}

/** Mount the chart while it is shown, and draw it again after a change of the theme. */
function useChart(props: ChartCardProps, table: boolean) {
  const { data, group } = props;
  const elements: ChartElements = {
    card: useRef<HTMLElement>(null),
    viewport: useRef<HTMLDivElement>(null),
    axis: useRef<HTMLDivElement>(null),
    readout: useRef<HTMLSpanElement>(null),
    unit: useRef<HTMLSpanElement>(null),
    legend: useRef<HTMLDivElement>(null),
  };
  const chart = useRef<MountedChart | null>(null);
  useEffect(() => {
    if (table) return;
    const mounted = mountChart(elements, props);
    chart.current = mounted;
    return () => {
      mounted?.close();
      chart.current = null;
    };
  }, [data, group.metrics.map(({ metric }) => metric).join("\n"), table]);
  const colours = colourVersion.value;
  useEffect(() => data.scheduler.requestFrame(), [colours]);
  return { elements, chart };
}

interface LegendProps {
  host: RefObject<HTMLDivElement | null>;
  chart: RefObject<MountedChart | null>;
}

function ChartLegend({ host, chart }: LegendProps) {
  const [order, setOrder] = useState<LegendOrder>("name");
  const sort = () => {
    const next = order === "name" ? "value" : "name";
    setOrder(next);
    chart.current?.legend?.sort(next);
  };
  return (
    <div class="legend">
      <div class="legend-bar">
        <button type="button" onClick={sort}>
          By {order}
        </button>
      </div>
      <div class="legend-items" ref={host} data-testid="legend" />
    </div>
  );
}

interface ToolsProps {
  title: string;
  table: boolean;
  setTable: (table: boolean) => void;
  download: Download;
}

function ChartTools({ title, table, setTable, download }: ToolsProps) {
  return (
    <div class="chart-tools">
      <button
        type="button"
        aria-pressed={table}
        aria-label={table ? `Show ${title} as a chart` : `Show ${title} as a table`}
        title={table ? "As a chart" : "As a table"}
        onClick={() => setTable(!table)}
      >
        <Icon name="table" />
      </button>
      <button
        type="button"
        disabled={download.running}
        aria-label={`Download ${title} as CSV`}
        title={download.running ? "Downloading" : "Download as CSV"}
        data-testid="download"
        onClick={() => void download.start()}
      >
        <Icon name="download" />
      </button>
    </div>
  );
}

function DownloadProblem({ download }: { download: Download }) {
  if (download.problem === null) return null;
  return (
    <p class="chart-problem" role="alert" data-testid="download-problem">
      <span>Nothing was downloaded: {download.problem}</span>
      <button type="button" aria-label="Dismiss" onClick={download.dismiss}>
        <Icon name="close" />
      </button>
    </p>
  );
}

interface Download {
  running: boolean;
  problem: string | null;
  start: () => Promise<void>;
  dismiss: () => void;
}

/** Download the readings of a chart in its current range: a live chart has moved since it was rendered. */
function useDownload({ scheduler }: DeviceData, group: ChartGroup, title: string): Download {
  const [running, setRunning] = useState(false);
  const [problem, setProblem] = useState<string | null>(null);
  const start = async () => {
    setRunning(true);
    setProblem(null);
    try {
      const metrics = group.metrics.map(({ metric }) => metric);
      const csv = await fetchCsv(scheduler.device, metrics, scheduler.timeRange());
      saveFile(csv, `${scheduler.device} ${title}.csv`);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      setProblem(error.message);
    } finally {
      setRunning(false);
    }
  };
  return { running, problem, start, dismiss: () => setProblem(null) };
}

/** The DOM elements that a chart updates without rendering. */
interface ChartElements {
  card: RefObject<HTMLElement | null>;
  viewport: RefObject<HTMLDivElement | null>;
  axis: RefObject<HTMLDivElement | null>;
  readout: RefObject<HTMLSpanElement | null>;
  unit: RefObject<HTMLSpanElement | null>;
  legend: RefObject<HTMLDivElement | null>;
}

interface MountedChart {
  legend: Legend | null;
  close: () => void;
}

/** Create the chart view, value axis and legend in their elements, and keep their sizes up to date. */
function mountChart(elements: ChartElements, props: ChartCardProps): MountedChart | null {
  const { data, group, heads } = props;
  const [card, viewport, axis] = [elements.card.current, elements.viewport.current, elements.axis.current];
  if (card === null || viewport === null || axis === null) return null;
  const valueAxis = new ValueAxis(axis);
  const series = group.metrics.map(({ metric }) => ({
    metric,
    colour: colourOf(heads, metric),
    label: shortName(metric, group),
  }));
  const host = elements.legend.current;
  const legend = host === null ? null : new Legend(host, series, (metrics) => chart.isolate(metrics));
  let format = formatOf(data, group);
  let shownRange: YRange | null = null;
  const chart: ChartView = new ChartView({
    scheduler: data.scheduler,
    viewport,
    series,
    integers: group.metrics.every(({ type }) => type === "integer"),
    describe: (time) => describeTime(chart, data, time),
    onRange: (range) => {
      shownRange = range;
      valueAxis.showRange(range, format);
    },
    onReadout: ({ time, values, last }) => {
      const next = formatOf(data, group);
      if (next.scale !== format.scale && shownRange !== null) valueAxis.showRange(shownRange, next);
      format = next;
      legend?.show(values, format);
      valueAxis.showLast(last, format);
      if (series.length === 1) setText(elements.readout.current, formatValue(values[0], format));
      setText(elements.unit.current, format.unit);
      elements.readout.current?.classList.toggle("past", time !== null);
    },
  });
  const detachGestures = attachGestures(viewport, data.scheduler, chart);
  const unobserve = observeLayout(card, viewport, data.scheduler, chart, valueAxis);
  return {
    legend,
    close: () => {
      detachGestures();
      unobserve();
      chart.close();
      legend?.close();
      valueAxis.close();
    },
  };
}

/** Observe the size of the plot and the visibility of the card. Return the function that stops it. */
function observeLayout(
  card: HTMLElement,
  viewport: HTMLElement,
  scheduler: FrameScheduler,
  chart: ChartView,
  axis: ValueAxis,
): () => void {
  const sizes = new ResizeObserver(([entry]) => {
    const { width, height } = entry.contentRect;
    axis.resize(height);
    chart.resize(Math.floor(width), Math.floor(height));
  });
  sizes.observe(viewport);
  const visibility = new IntersectionObserver(
    ([entry]) => {
      chart.visible = entry.isIntersecting;
      scheduler.requestFrame();
    },
    { rootMargin: "160px" },
  );
  visibility.observe(card);
  return () => {
    sizes.disconnect();
    visibility.disconnect();
  };
}

/** Return the text under the crosshair: the time, a late reading, or the reason for a gap. */
function describeTime(chart: ChartView, data: DeviceData, time: number): string {
  const gap = chart.gapAt(time);
  if (gap === null) return chart.lateAt(time) === null ? clock(time) : `${clock(time)} · arrived late`;
  const started_ns = hub.info.peek()?.started_ns;
  return gapReason(gap, data.events.peek(), started_ns === undefined ? null : started_ns / 1e6);
}

function setText(element: HTMLElement | null, text: string): void {
  if (element !== null && element.textContent !== text) element.textContent = text;
}

function labelOf(group: ChartGroup): string {
  const contents = group.metrics.length > 1 ? `${group.metrics.length} series` : "one series";
  const unit = group.unit === "" ? "" : ` in ${group.unit}`;
  return `Chart of ${group.title || "all metrics"}${unit}, ${contents}. Arrow keys move through time, plus and minus zoom, End returns to the newest readings.`;
}

/** Return the part of a series' name that its group does not have. */
function shortName(metric: string, group: ChartGroup): string {
  if (group.title === "" || !metric.startsWith(group.title)) return metric;
  return metric.slice(group.title.length).replace(/^[._\-/ ]+/, "") || metric;
}

function formatOf(data: DeviceData, group: ChartGroup): NumberFormat {
  return commonFormat(group.metrics.map((head) => data.formatOf(head)));
}

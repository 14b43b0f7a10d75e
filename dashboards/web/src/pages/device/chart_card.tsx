/** Chart card: title, current value, plot, value axis, legend and table. */

import type { RefObject } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { YRange } from "../../chart/axes";
import { ChartView } from "../../chart/chart_view";
import { attachGestures } from "../../chart/gestures";
import { gapReason } from "../../chart/intervals";
import { setText } from "../../chart/marks";
import { seriesColour } from "../../chart/theme_colours";
import { fetchCsv } from "../../data/api";
import { hub } from "../../data/hub";
import { type ChartGroup, colourOf, type MetricHead } from "../../data/metrics";
import { commonFormat, formatValue, type NumberFormat } from "../../data/number_format";
import { clock } from "../../data/time";
import { type Action, saveFile, useAction } from "../../ui/controls";
import { Icon } from "../../ui/icon";
import { ChartTable } from "./chart_table";
import type { DeviceData } from "./device_data";
import { Legend, type LegendOrder } from "./legend";
import { ValueAxis } from "./value_axis";
import { StaleAge } from "./values";

interface ChartCardProps {
  data: DeviceData;
  group: ChartGroup;
  /** All metrics of the device: the position of a metric determines its colour. */
  heads: readonly MetricHead[];
  /** The stale metrics of the device. */
  stale: readonly string[];
}

export function ChartCard(props: ChartCardProps) {
  const { data, group, heads, stale } = props;
  const [table, setTable] = useState(false);
  const elements = useChartElements();
  const chart = useChart(elements, props, table);
  useEffect(() => chart.current?.legend?.markStale(new Set(stale)), [stale, table]);
  const many = group.metrics.length > 1;
  const old = group.metrics.filter(({ metric }) => stale.includes(metric));
  const title = group.title || (group.unit === "" ? "Without unit" : `All in ${group.unit}`);
  const download = useAction(async () => {
    const { device } = data.scheduler;
    // The current range: a live chart has moved since it was rendered.
    const csv = await fetchCsv(device, metricsOf(group), data.scheduler.timeRange());
    saveFile(csv, `${device} ${title}.csv`);
  });
  return (
    <section
      class={`chart box ${many ? "many" : ""} ${old.length === group.metrics.length ? "stale" : ""}`}
      ref={elements.card}
      data-testid="chart"
      data-metric={group.metrics[0].metric}
    >
      <header class="chart-head">
        {!many && <span class="swatch" style={{ color: seriesColour(colourOf(heads, group.metrics[0].metric)) }} />}
        <h3 class="ellipsis" title={title}>
          {title}
        </h3>
        <span class="description ellipsis">
          {many ? `${group.metrics.length} series` : group.metrics[0].description}
        </span>
        {old.length > 0 && (many ? <StaleCount count={old.length} /> : <StaleAge data={data} head={old[0]} />)}
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
          {!data.ready.value && <p class="plot-note note">Loading</p>}
        </div>
      )}
      {many && !table && <ChartLegend host={elements.legend} chart={chart} />}
    </section>
  );
}

function StaleCount({ count }: { count: number }) {
  return (
    <span class="stale-age" data-testid="stale-age">
      {count} stale
    </span>
  );
}

/** Return the DOM elements that a chart updates without rendering. */
function useChartElements() {
  return {
    card: useRef<HTMLElement>(null),
    viewport: useRef<HTMLDivElement>(null),
    axis: useRef<HTMLDivElement>(null),
    /** Only a single series has one. */
    readout: useRef<HTMLSpanElement>(null),
    unit: useRef<HTMLSpanElement>(null),
    legend: useRef<HTMLDivElement>(null),
  };
}

type ChartElements = ReturnType<typeof useChartElements>;

/** Mount the chart while it is shown. */
function useChart(elements: ChartElements, props: ChartCardProps, table: boolean): RefObject<MountedChart | null> {
  const { data, group } = props;
  const chart = useRef<MountedChart | null>(null);
  useEffect(() => {
    if (table) return;
    const mounted = mountChart(elements, props);
    chart.current = mounted;
    return () => {
      mounted?.close();
      chart.current = null;
    };
  }, [data, group.metrics.map(({ metric, unit, type }) => `${metric} ${unit} ${type}`).join("\n"), table]);
  return chart;
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
  download: Action;
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
        onClick={() => void download.run()}
      >
        <Icon name="download" />
      </button>
    </div>
  );
}

function DownloadProblem({ download }: { download: Action }) {
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

interface MountedChart {
  legend: Legend | null;
  close: () => void;
}

/** Create the chart view, value axis and legend in their elements, and keep their sizes up to date. */
function mountChart(elements: ChartElements, props: ChartCardProps): MountedChart | null {
  const { data, group, heads } = props;
  const [card, viewport, axis] = [elements.card.current, elements.viewport.current, elements.axis.current];
  const unit = elements.unit.current;
  if (card === null || viewport === null || axis === null || unit === null) return null;
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
    card,
    viewport,
    series,
    integers: group.metrics.every(({ type }) => type === "integer"),
    describe: (time) => describeTime(chart, data, time),
    onRange: (range) => {
      shownRange = range;
      valueAxis.showRange(range, format);
    },
    onReadout: ({ values, last }) => {
      const next = formatOf(data, group);
      if (next.scale !== format.scale && shownRange !== null) valueAxis.showRange(shownRange, next);
      format = next;
      legend?.show(values, format);
      valueAxis.showLast(last, format);
      setText(unit, format.unit);
      if (elements.readout.current !== null) setText(elements.readout.current, formatValue(values[0], format));
    },
  });
  const detachGestures = attachGestures(viewport, data.scheduler, chart);
  const sizes = new ResizeObserver(([{ contentRect }]) => {
    valueAxis.resize(contentRect.height);
    chart.resize(Math.floor(contentRect.width), Math.floor(contentRect.height));
  });
  sizes.observe(viewport);
  return {
    legend,
    close: () => {
      detachGestures();
      sizes.disconnect();
      chart.close();
      legend?.close();
      valueAxis.close();
    },
  };
}

/** Return the text under the crosshair: the time, a restart, a late reading, or the reason for a gap. */
function describeTime(chart: ChartView, data: DeviceData, time: number): string {
  const restart = chart.restartAt(time);
  if (restart !== null) return `${clock(restart.time)} · restarted${restart.detail && `: ${restart.detail}`}`;
  const gap = chart.gapAt(time);
  if (gap === null) return chart.lateAt(time) === null ? clock(time) : `${clock(time)} · arrived late`;
  const started_ns = hub.info.peek()?.started_ns;
  return gapReason(gap, data.events.peek(), started_ns === undefined ? null : started_ns / 1e6);
}

function metricsOf(group: ChartGroup): string[] {
  return group.metrics.map(({ metric }) => metric);
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

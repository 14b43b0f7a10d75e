/** Chart card: title, current value, plot, value axis, legend and table. */

import { useEffect, useRef, useState } from "preact/hooks";
import type { YRange } from "../../chart/axes";
import { ChartView } from "../../chart/chart_view";
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

export interface ChartCardProps {
  data: DeviceData;
  group: ChartGroup;
  /** All metrics of the device: the position of a metric determines its colour. */
  heads: readonly MetricHead[];
}

export function ChartCard({ data, group, heads }: ChartCardProps) {
  const { scheduler } = data;
  const card = useRef<HTMLElement>(null);
  const viewport = useRef<HTMLDivElement>(null);
  const axis = useRef<HTMLDivElement>(null);
  const readout = useRef<HTMLSpanElement>(null);
  const unit = useRef<HTMLSpanElement>(null);
  const legendHost = useRef<HTMLDivElement>(null);
  const legend = useRef<Legend | null>(null);
  const [order, setOrder] = useState<LegendOrder>("name");
  const [table, setTable] = useState(false);
  const [download, setDownload] = useState<"running" | ApiError | null>(null);
  const many = group.metrics.length > 1;
  const key = group.metrics.map(({ metric }) => metric).join("\n");

  useEffect(() => {
    if (table || viewport.current === null || axis.current === null || card.current === null) return;
    const series = group.metrics.map(({ metric }) => ({ metric, colour: colourOf(heads, metric) }));
    const valueAxis = new ValueAxis(axis.current);
    let format = formatOf(data, group);
    let shownRange: YRange | null = null;
    const legendView =
      legendHost.current === null
        ? null
        : new Legend(
            legendHost.current,
            series.map((entry) => ({ ...entry, label: shortName(entry.metric, group) })),
            (metrics) => chart.isolate(metrics),
          );
    legend.current = legendView;
    const chart = new ChartView({
      scheduler,
      viewport: viewport.current,
      series,
      describe: (time) => {
        const gap = chart.gapAt(time);
        const started = hub.info.peek()?.started_ns;
        if (gap !== null)
          return gapReason(gap, data.events.peek(), started === undefined ? null : started / 1e6);
        return chart.lateAt(time) === null ? clock(time) : `${clock(time)} · arrived late`;
      },
      onRange: (range) => {
        shownRange = range;
        valueAxis.showRange(range, format);
      },
      onReadout: ({ time, values, last }) => {
        const next = formatOf(data, group);
        if (next.scale !== format.scale && shownRange !== null) valueAxis.showRange(shownRange, next);
        format = next;
        legendView?.show(values, format);
        valueAxis.showLast(last, format);
        if (readout.current !== null && !many) setText(readout.current, formatValue(values[0], format));
        if (unit.current !== null) setText(unit.current, format.unit);
        readout.current?.classList.toggle("past", time !== null);
      },
    });
    const sizes = new ResizeObserver(([entry]) => {
      const { width, height } = entry.contentRect;
      valueAxis.resize(height);
      chart.resize(Math.floor(width), Math.floor(height));
    });
    sizes.observe(viewport.current);
    const sight = new IntersectionObserver(
      ([entry]) => {
        chart.visible = entry.isIntersecting;
        scheduler.requestFrame();
      },
      { rootMargin: "160px" },
    );
    sight.observe(card.current);
    const detach = attachGestures(viewport.current, scheduler, chart);
    return () => {
      detach();
      sizes.disconnect();
      sight.disconnect();
      chart.close();
      legendView?.close();
      valueAxis.close();
      legend.current = null;
    };
  }, [data, key, table]);

  const theme = colourVersion.value;
  useEffect(() => scheduler.requestFrame(), [theme]);

  const sort = () => {
    const next = order === "name" ? "value" : "name";
    setOrder(next);
    legend.current?.sort(next);
  };
  const title = group.title || (group.unit === "" ? "Without unit" : `All in ${group.unit}`);
  const save = async () => {
    setDownload("running");
    try {
      // The range of this moment: a live chart has moved since it was rendered.
      const metrics = group.metrics.map(({ metric }) => metric);
      saveFile(
        await fetchCsv(scheduler.device, metrics, scheduler.timeRange()),
        `${scheduler.device} ${title}.csv`,
      );
      setDownload(null);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      setDownload(error);
    }
  };
  return (
    <section
      class={`chart ${many ? "many" : ""}`}
      ref={card}
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
            disabled={download === "running"}
            aria-label={`Download ${title} as CSV`}
            title={download === "running" ? "Downloading" : "Download as CSV"}
            data-testid="download"
            onClick={() => void save()}
          >
            <Icon name="download" />
          </button>
        </div>
        <span class="readout number">
          {!many && !table && <span ref={readout}>–</span>}
          <span class="unit" ref={unit}>
            {group.unit}
          </span>
        </span>
      </header>
      {download instanceof ApiError && (
        <p class="chart-problem" role="alert" data-testid="download-problem">
          <span>Nothing was downloaded: {download.message}</span>
          <button type="button" aria-label="Dismiss" onClick={() => setDownload(null)}>
            <Icon name="close" />
          </button>
        </p>
      )}
      {table ? (
        <ChartTable data={data} group={group} />
      ) : (
        <div class="plot">
          <div class="viewport" ref={viewport} role="img" tabIndex={0} aria-label={labelOf(group)} />
          <div class="y-axis" ref={axis} aria-hidden="true" />
          {!data.ready.value && <p class="plot-note">Loading</p>}
        </div>
      )}
      {many && !table && (
        <div class="legend">
          <div class="legend-bar">
            <button type="button" onClick={sort}>
              By {order}
            </button>
          </div>
          <div class="legend-items" ref={legendHost} data-testid="legend" />
        </div>
      )}
    </section>
  );
}

function setText(element: HTMLElement, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

function labelOf(group: ChartGroup): string {
  const what = group.metrics.length > 1 ? `${group.metrics.length} series` : "one series";
  const unit = group.unit === "" ? "" : ` in ${group.unit}`;
  return `Chart of ${group.title || "all metrics"}${unit}, ${what}. Arrow keys move through time, plus and minus zoom, End goes live.`;
}

/** Return the part of a series' name that its group does not have. */
function shortName(metric: string, group: ChartGroup): string {
  if (group.title === "" || !metric.startsWith(group.title)) return metric;
  return metric.slice(group.title.length).replace(/^[._\-/ ]+/, "") || metric;
}

function formatOf(data: DeviceData, group: ChartGroup): NumberFormat {
  return commonFormat(group.metrics.map((head) => data.formatOf(head)));
}

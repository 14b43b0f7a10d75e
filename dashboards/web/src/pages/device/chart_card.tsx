/** A chart with all that belongs to it: name, readout, axis, legend, table. */

import { useEffect, useRef, useState } from "preact/hooks";
import { attachGestures } from "../../chart/gestures";
import { Stage } from "../../chart/stage";
import { seriesClass } from "../../chart/theme_colours";
import type { YRange } from "../../chart/y_range";
import { ApiError, fetchCsv } from "../../data/api";
import { common } from "../../data/formats";
import { gapReason } from "../../data/gap_reason";
import { hub } from "../../data/hub";
import { type ChartGroup, colourOf, type MetricHead } from "../../data/metrics";
import { formatValue, type NumberFormat } from "../../data/number_format";
import { clock } from "../../data/time_format";
import { Icon } from "../../ui/icon";
import { saveFile } from "../../ui/save_file";
import { colours } from "../../ui/theme";
import { ChartTable } from "./chart_table";
import type { DeviceData } from "./device_data";
import { Legend, type LegendOrder } from "./legend";
import { ValueAxis } from "./value_axis";

export interface ChartCardProps {
  data: DeviceData;
  group: ChartGroup;
  /** All metrics of the device: a series' colour is its place among them. */
  heads: readonly MetricHead[];
}

export function ChartCard({ data, group, heads }: ChartCardProps) {
  const { conductor } = data;
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
    const names =
      legendHost.current === null
        ? null
        : new Legend(
            legendHost.current,
            series.map((one) => ({ ...one, label: shortName(one.metric, group) })),
            (metrics) => stage.isolate(metrics),
          );
    legend.current = names;
    const stage = new Stage({
      conductor,
      viewport: viewport.current,
      series,
      describe: (time) => {
        const gap = stage.gapAt(time);
        const started = hub.info.peek()?.started_ns;
        if (gap !== null)
          return gapReason(gap, data.events.peek(), started === undefined ? null : started / 1e6);
        return stage.lateAt(time) === null ? clock(time) : `${clock(time)} · arrived late`;
      },
      onRange: (range) => {
        shownRange = range;
        valueAxis.showRange(range, format);
      },
      onReadout: ({ time, values, last }) => {
        const next = formatOf(data, group);
        if (next.scale !== format.scale && shownRange !== null) valueAxis.showRange(shownRange, next);
        format = next;
        names?.show(values, format);
        valueAxis.showLast(last, format);
        if (readout.current !== null && !many) write(readout.current, formatValue(values[0], format));
        if (unit.current !== null) write(unit.current, format.unit);
        readout.current?.classList.toggle("past", time !== null);
      },
    });
    const sizes = new ResizeObserver(([entry]) => {
      const { width, height } = entry.contentRect;
      valueAxis.resize(height);
      stage.resize(Math.floor(width), Math.floor(height));
    });
    sizes.observe(viewport.current);
    const sight = new IntersectionObserver(
      ([entry]) => {
        stage.visible = entry.isIntersecting;
        conductor.request();
      },
      { rootMargin: "160px" },
    );
    sight.observe(card.current);
    const detach = attachGestures(viewport.current, conductor, stage);
    return () => {
      detach();
      sizes.disconnect();
      sight.disconnect();
      stage.close();
      names?.close();
      valueAxis.close();
      legend.current = null;
    };
  }, [data, key, table]);

  const theme = colours.value;
  useEffect(() => conductor.request(), [theme]);

  const sort = () => {
    const next = order === "name" ? "value" : "name";
    setOrder(next);
    legend.current?.sort(next);
  };
  const title = group.title || (group.unit === "" ? "Without unit" : `All in ${group.unit}`);
  const save = async () => {
    setDownload("running");
    try {
      // What is shown at this moment: a live chart has moved on since it was put on the page.
      const metrics = group.metrics.map(({ metric }) => metric);
      saveFile(
        await fetchCsv(conductor.device, metrics, conductor.stretch()),
        `${conductor.device} ${title}.csv`,
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

function write(element: HTMLElement, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

function labelOf(group: ChartGroup): string {
  const what = group.metrics.length > 1 ? `${group.metrics.length} series` : "one series";
  const unit = group.unit === "" ? "" : ` in ${group.unit}`;
  return `Chart of ${group.title || "all metrics"}${unit}, ${what}. Arrow keys move through time, plus and minus zoom, End goes live.`;
}

/** What a series' name has beyond its group's. */
function shortName(metric: string, group: ChartGroup): string {
  if (group.title === "" || !metric.startsWith(group.title)) return metric;
  return metric.slice(group.title.length).replace(/^[._\-/ ]+/, "") || metric;
}

function formatOf(data: DeviceData, group: ChartGroup): NumberFormat {
  return common(group.metrics.map((head) => data.formatOf(head)));
}

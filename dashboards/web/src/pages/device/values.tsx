/** Large tiles with the most informative values. */

import { useEffect, useRef } from "preact/hooks";
import { setText } from "../../chart/marks";
import { isStale, staleText } from "../../data/freshness";
import type { MetricDetails } from "../../data/metrics";
import { leadingMetrics, type MetricHead } from "../../data/metrics";
import { latestReading, type ReadingText } from "../../data/number_format";
import { now } from "../../data/time";
import type { DeviceState } from "../../wire/live";
import type { DeviceData } from "./device_data";

const TILES = 6;
/** Longer numbers use a smaller font. */
const LONG = 8;
/** Numbers that change more often are unreadable. */
const EVERY_MS = 200;

interface ValuesProps {
  data: DeviceData;
  metrics: MetricDetails[];
  state: DeviceState;
}

export function Values({ data, metrics, state }: ValuesProps) {
  return (
    <div class="values" data-testid="values">
      {leadingMetrics(metrics, TILES).map((head) => (
        <ValueTile key={head.metric} data={data} head={head} stale={isStale(state, head.metric)} />
      ))}
    </div>
  );
}

/** Age of a stale value, after its name. */
export function StaleAge({ data, head }: { data: DeviceData; head: MetricHead }) {
  return (
    <span class="stale-age" data-testid="stale-age">
      {staleText(data.lastReading(head), now.value)}
    </span>
  );
}

function ValueTile({ data, head, stale }: { data: DeviceData; head: MetricDetails; stale: boolean }) {
  const tile = useRef<HTMLDivElement>(null);
  const big = useRef<HTMLParagraphElement>(null);
  const number = useRef<HTMLSpanElement>(null);
  const unit = useRef<HTMLSpanElement>(null);
  useEffect(() => {
    let shown = "";
    let at = 0;
    const show = ({ text, unit: unitText }: ReadingText) => {
      if (text === shown || number.current === null || unit.current === null) return;
      shown = text;
      setText(number.current, text);
      setText(unit.current, unitText);
      big.current?.classList.toggle("long", text.length + unitText.length / 2 > LONG);
    };
    show(latestReading(head, undefined, data.formats));
    const frame = () => {
      const now = performance.now();
      if (now - at < EVERY_MS) return EVERY_MS - (now - at);
      at = now;
      const buffer = data.scheduler.feed.series.get(head.metric)?.buffer;
      // An empty buffer of a shorter feed does not replace a shown value.
      if (buffer !== undefined && buffer.length > 0) show(latestReading(head, buffer, data.formats));
      return Number.POSITIVE_INFINITY;
    };
    return tile.current === null ? undefined : data.scheduler.add({ frame }, tile.current);
  }, [data, head]);
  return (
    <div class={`value-tile box ${stale ? "stale" : ""}`} ref={tile} data-testid="value" data-metric={head.metric}>
      <p class="label ellipsis" title={head.description || head.metric}>
        {head.metric}
        {stale && <StaleAge data={data} head={head} />}
      </p>
      <p class="big number" ref={big}>
        <span ref={number}>–</span>
        <span class="unit" ref={unit} />
      </p>
    </div>
  );
}

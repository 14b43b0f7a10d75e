/** Row of the fleet list: state, leading metrics with sparklines, and age of the last reading. */

import { signal } from "@preact/signals";
import { memo } from "preact/compat";
import { useEffect, useMemo } from "preact/hooks";
import { Feed } from "../../data/feed";
import { conditionOf, type DeviceRecord, failedSources, lastReading, lastSeen, offlineSince } from "../../data/fleet";
import { isStale, staleText } from "../../data/freshness";
import { hub } from "../../data/hub";
import type { MetricDetails } from "../../data/metrics";
import { colourOf, leadingMetrics } from "../../data/metrics";
import { count, FormatCache, latestReading } from "../../data/number_format";
import { age, now } from "../../data/time";
import { Icon } from "../../ui/icon";
import { devicePath } from "../../ui/route";
import { ConditionLabel } from "../../ui/status";
import { Sparkline } from "./sparkline";

const SPARKLINE_SPAN_MS = 5 * 60_000;
const SPARKLINE_POINTS = 150;
const PERIOD_MS = 1000;
const METRICS = 3;
/** Rows that pass by while scrolling send no request. */
const SUBSCRIBE_AFTER_MS = 120;
/** A connected device with an older last reading is highlighted. */
const OLD_MS = 30_000;

const PLACES = ["first", "second", "third"] as const;

/** Return the device type from its tags. */
export function typeOf(record: DeviceRecord): string {
  return record.state.peek().tags?.type ?? "";
}

function FleetRowView({ record, top }: { record: DeviceRecord; top: number }) {
  const metrics = record.metrics.value;
  const leading = useMemo(() => leadingMetrics(metrics ?? [], METRICS), [metrics]);
  const names = leading.map(({ metric }) => metric).join("\n");
  const live = useFeed(record, names);
  const condition = conditionOf(record);
  const state = record.state.value;
  const age_ms = lastReading(record) === 0 ? null : now.value - lastReading(record);
  const seen_ms = lastSeen(record);
  const backlog = state.backlog ?? 0;
  const failed = failedSources(state);
  void live.version.value;
  return (
    <li
      class={`fleet-row ${state.retired ? "unconnected" : condition} ${failed.length > 0 ? "faulty" : ""}`}
      style={{ transform: `translateY(${top}px)` }}
      data-testid="fleet-row"
      data-device={record.device}
    >
      {state.retired ? (
        <span class="condition unconnected" data-testid="condition">
          Retired
        </span>
      ) : (
        <ConditionLabel condition={condition} />
      )}
      <span class="who">
        <a class="name mono ellipsis" href={devicePath(record.device)} title={record.device}>
          {record.device}
        </a>
        {failed.length > 0 ? (
          <span
            class="fault row"
            data-testid="fault"
            title={failed.map(({ name, error }) => `${name}: ${error}`).join("\n")}
          >
            <Icon name="warning" />
            <span class="ellipsis">
              {failed.length === 1 ? `Source failed: ${shortName(failed[0].name)}` : `${failed.length} sources failed`}
            </span>
          </span>
        ) : (
          <span class="kind label ellipsis">{typeOf(record) || state.agent || " "}</span>
        )}
      </span>
      {PLACES.map((place, position) => (
        <MetricCell
          key={place}
          place={place}
          head={leading[position]}
          colour={leading[position] === undefined ? 0 : colourOf(metrics ?? [], leading[position].metric)}
          live={live}
          offlineSince={offlineSince(state)}
          stale={leading[position] !== undefined && isStale(state, leading[position].metric)}
          rowAge={state.connected || age_ms === null ? "" : age(age_ms)}
        />
      ))}
      <span class={`age number ${condition === "online" && age_ms !== null && age_ms > OLD_MS ? "old" : ""}`}>
        {age_ms === null ? "–" : age(age_ms)}
        {seen_ms !== null && <small class="muted">seen {age(now.value - seen_ms)}</small>}
      </span>
      <span class={`backlog number ${backlog > 0 ? "some" : "muted"}`} data-testid="fleet-backlog">
        {count(backlog)}
      </span>
    </li>
  );
}

/** Return the end of a path, which distinguishes it. */
function shortName(name: string): string {
  return name.split("/").findLast((part) => part !== "") ?? name;
}

export const FleetRow = memo(FleetRowView);

interface Live {
  feed: Feed | null;
  version: { value: number };
  formats: FormatCache;
}

/** Subscribe to a row's metrics shortly after it becomes visible, until it disappears. */
function useFeed(record: DeviceRecord, names: string): Live {
  const live = useMemo(() => ({ feed: null as Feed | null, version: signal(0), formats: new FormatCache() }), [record]);
  useEffect(() => {
    if (names === "") return;
    let frame = 0;
    const timer = setTimeout(() => {
      const feed = new Feed(hub.connection, {
        device: record.device,
        metrics: names.split("\n"),
        policy: "latest",
        period_ms: PERIOD_MS,
        span_ms: SPARKLINE_SPAN_MS,
        points: SPARKLINE_POINTS,
      });
      feed.onReading = () => hub.fleet.recordReading(record.device);
      feed.onChange = () => {
        if (frame === 0)
          frame = requestAnimationFrame(() => {
            frame = 0;
            feed.dropBefore(now.peek() - SPARKLINE_SPAN_MS);
            live.version.value++;
          });
      };
      live.feed = feed;
    }, SUBSCRIBE_AFTER_MS);
    return () => {
      clearTimeout(timer);
      cancelAnimationFrame(frame);
      live.feed?.close();
      live.feed = null;
    };
  }, [record, names, live]);
  return live;
}

interface CellProps {
  place: string;
  head: MetricDetails | undefined;
  colour: number;
  live: Live;
  offlineSince: number | null;
  stale: boolean;
  /** Age of a device that is not connected: that of a metric is shown only if it is another one. */
  rowAge: string;
}

function MetricCell({ place, head, colour, live, offlineSince, stale, rowAge }: CellProps) {
  if (head === undefined) return <span class={`metric-cell ${place}`} />;
  const buffer = live.feed?.series.get(head.metric)?.buffer;
  const { text, unit } = latestReading(head, buffer, live.formats);
  const last = Math.max(buffer?.lastTime ?? 0, (head.latest?.time_ns ?? 0) / 1e6);
  return (
    <span class={`metric-cell ${place} ${stale ? "stale" : ""}`} data-testid={stale ? "stale-cell" : undefined}>
      <span class="reading">
        <span class="label" title={head.metric}>
          <span class="ellipsis">{head.metric}</span>
          {stale && (last === 0 || age(now.value - last) !== rowAge) && (
            <span class="stale-age">{staleText(last, now.value)}</span>
          )}
        </span>
        <span class="value number ellipsis">
          {text}
          {unit !== "" && <span class="unit">{unit}</span>}
        </span>
      </span>
      {buffer !== undefined && (
        <Sparkline
          buffer={buffer}
          colour={colour}
          span_ms={SPARKLINE_SPAN_MS}
          to={Math.max(now.value, buffer.lastTime)}
          type={head.type}
          offlineSince={offlineSince}
        />
      )}
    </span>
  );
}

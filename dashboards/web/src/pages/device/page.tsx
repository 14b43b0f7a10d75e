/** Device page: the current and past values of one device. */

import { type Signal, signal } from "@preact/signals";
import { useEffect, useMemo, useState } from "preact/hooks";
import { DEFAULT_SPAN_MS, fromQuery, RANGES, type TimeView, toQuery } from "../../chart/time_view";
import { ApiError } from "../../data/api";
import { type DeviceRecord, lastReading } from "../../data/fleet";
import { isStale, UNKNOWN_FRESHNESS } from "../../data/freshness";
import { hub } from "../../data/hub";
import { chartGroups, isState } from "../../data/metrics";
import { plural } from "../../data/number_format";
import { dateTime, now } from "../../data/time";
import { PageMessage } from "../../ui/controls";
import { pageActions } from "../../ui/palette";
import { addRecentDevice, readPreference, writePreference } from "../../ui/preferences";
import { pageView } from "../../ui/shell";
import type { DeviceMetric } from "../../wire/api";
import { ChartCard } from "./chart_card";
import { Commands, NoCommands } from "./commands";
import { Connection } from "./connection";
import { DeviceHead, Events, Retirement, Sources, Tags } from "./details";
import { DeviceData, type Notice } from "./device_data";
import { Metrics } from "./metrics";
import { Settings } from "./settings";
import { StateTimeline } from "./state_timeline";
import { Values } from "./values";

const TOGETHER_KEY = "charts-together";
/** The address is updated after a gesture has ended. */
const ADDRESS_AFTER_MS = 300;

const NO_METRICS: readonly string[] = [];

const together = signal(readPreference(TOGETHER_KEY) === "yes");

export function DevicePage({ device }: { device: string }) {
  void hub.fleet.version.value;
  const record = hub.fleet.get(device);
  const [missing, setMissing] = useState(false);
  useEffect(() => {
    if (record === undefined)
      hub.fleet.fetch(device).catch((error: unknown) => setMissing(error instanceof ApiError && error.status === 404));
  }, []);
  if (record !== undefined) return <KnownDevice record={record} />;
  if (!missing) return <div aria-busy="true" />;
  return (
    <PageMessage title="Unknown device" hasLink>
      The hub has no device with the id <code>{device}</code>. A device appears after its first connection.
    </PageMessage>
  );
}

function KnownDevice({ record }: { record: DeviceRecord }) {
  const view = useView();
  const { device } = record;
  const [data, setData] = useState<DeviceData | null>(null);
  useEffect(() => {
    const created = new DeviceData(hub, device, view);
    setData(created);
    addRecentDevice(device);
    return () => created.close();
  }, [device, view, record]);
  const metrics = useMetrics(record, data);
  return (
    <>
      <DeviceHead record={record} />
      {data !== null && metrics !== null && data.commands.isSettled && data.settings.isSettled && (
        <Charts data={data} metrics={metrics} record={record} />
      )}
      <div class="panels">
        <Events events={data?.events.value ?? []} />
        <div class="panel-column">
          <Connection intervals={data?.presence.value ?? []} />
          {metrics !== null && <Metrics device={device} metrics={metrics} state={record.state.value} />}
          {data !== null && <NoCommands commands={data.commands} />}
          <Sources state={record.state.value} />
          <Tags tags={record.state.value.tags ?? {}} />
        </div>
      </div>
      <Retirement record={record} />
      <SummaryNotice notice={data?.notice.value ?? null} />
    </>
  );
}

interface ChartsProps {
  data: DeviceData;
  metrics: DeviceMetric[];
  record: DeviceRecord;
}

function Charts({ data, metrics, record }: ChartsProps) {
  const groups = useMemo(() => chartGroups(metrics, together.value), [metrics, together.value]);
  const states = metrics.filter((head) => isState(head.type));
  const control = (
    <div class="control">
      <Commands device={record.device} isConnected={record.state.value.connected} commands={data.commands} />
      <Settings device={record.device} isConnected={record.state.value.connected} settings={data.settings} />
    </div>
  );
  if (metrics.length === 0)
    return (
      <>
        {control}
        <div class="message">
          <h2>No metrics yet</h2>
          <p class="muted">The device has not declared any metric yet. Charts appear with its first readings.</p>
        </div>
      </>
    );
  return (
    <>
      <Values data={data} metrics={metrics} state={record.state.value} />
      {control}
      <ChartBar data={data} metrics={metrics} record={record} />
      {states.length > 0 && (
        <div class="timelines box">
          {states.map((head) => (
            <StateTimeline key={head.metric} data={data} head={head} stale={isStale(record.state.value, head.metric)} />
          ))}
        </div>
      )}
      <div class="charts">
        {groups.map((group) => (
          <ChartCard
            key={group.metrics.map(({ metric }) => metric).join("\n")}
            data={data}
            group={group}
            heads={metrics}
            stale={record.state.value.stale ?? NO_METRICS}
          />
        ))}
      </div>
    </>
  );
}

function ChartBar({ data, metrics, record }: ChartsProps) {
  const { problem } = data.scheduler.window;
  return (
    <div class="section-bar bar">
      <h2>Charts</h2>
      <span class="muted">{plural(metrics.length, "metric")}</span>
      {problem !== null && <span class="muted">The history could not be loaded. {problem}</span>}
      <LastReadings data={data} record={record} />
      <fieldset class="segments box" aria-label="Charts">
        {[false, true].map((value) => (
          <button
            key={String(value)}
            type="button"
            aria-pressed={together.value === value}
            data-testid={value ? "per-unit" : "per-metric"}
            onClick={() => {
              together.value = value;
              writePreference(TOGETHER_KEY, value ? "yes" : "no");
            }}
          >
            {value ? "Per unit" : "Per metric"}
          </button>
        ))}
      </fieldset>
    </div>
  );
}

/** Notice for a device without readings in the shown range, with a button to its last readings. */
function LastReadings({ data, record }: { data: DeviceData; record: DeviceRecord }) {
  const { view } = data.scheduler;
  const last = lastReading(record);
  if (view.value.mode === "fixed" || last === 0 || now.value - last < view.value.span_ms) return null;
  const { span_ms } = view.value;
  const showLast = () => {
    view.value = { mode: "fixed", from: last - span_ms * 0.8, to: last + span_ms * 0.2 };
  };
  return (
    <>
      <span class="muted">No readings since {dateTime(last, now.value)}</span>
      <button type="button" class="button" data-testid="show-last" onClick={showLast}>
        Show the last readings
      </button>
    </>
  );
}

/** Return the device's metrics: those that the hub listed, and new ones from live readings. */
function useMetrics(record: DeviceRecord, data: DeviceData | null): DeviceMetric[] | null {
  const listed = record.metrics.value;
  const changed = data?.scheduler.seriesVersion.value ?? 0;
  return useMemo(() => {
    if (listed === null) return null;
    const known = new Set(listed.map(({ metric }) => metric));
    const added = [...(data?.scheduler.feed.series.values() ?? [])].filter(({ info }) => !known.has(info.metric));
    if (added.length === 0) return listed;
    hub.fleet.requestMetrics(record.device);
    const defaults = { type: "float" as const, unit: "", description: "", freshness: UNKNOWN_FRESHNESS };
    return [...listed, ...added.map(({ info }) => ({ ...defaults, ...info, latest: null }))];
  }, [listed, changed, data, record]);
}

/** Return the time view of the page. It is read from the address and written back when it changes. */
function useView(): Signal<TimeView> {
  const view = useMemo(
    () => signal<TimeView>(fromQuery(window.location.search) ?? { mode: "live", span_ms: DEFAULT_SPAN_MS }),
    [],
  );
  useEffect(() => {
    pageView.value = view;
    pageActions.value = RANGES.map((range) => ({
      text: `Show the last ${range.label}`,
      hint: "Time range",
      icon: "range" as const,
      run: () => {
        view.value = { mode: "live", span_ms: range.span_ms };
      },
    }));
    let timer = 0;
    const stop = view.subscribe((shown) => {
      clearTimeout(timer);
      timer = window.setTimeout(() => {
        history.replaceState(null, "", `${window.location.pathname}?${toQuery(shown)}`);
      }, ADDRESS_AFTER_MS);
    });
    return () => {
      stop();
      clearTimeout(timer);
      pageView.value = null;
      pageActions.value = [];
    };
  }, [view]);
  return view;
}

function SummaryNotice({ notice }: { notice: Notice | null }) {
  if (notice === null) return null;
  return (
    <p class="notice note" role="status" data-testid="conflated">
      {notice.fetched
        ? `${plural(notice.readings, "summarised reading was", "summarised readings were")} loaded in full.`
        : `The connection is slow: ${plural(notice.readings, "reading was", "readings were")} summarised.`}
    </p>
  );
}

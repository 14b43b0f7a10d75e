/** Fleet page: the list of all devices, with problems first. */

import { signal } from "@preact/signals";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { rem } from "../../chart/theme_colours";
import {
  type Condition,
  compareNames,
  conditionOf,
  type DeviceRecord,
  type FleetFilter,
  failedSources,
  filterOf,
  hasStaleMetric,
  lastReading,
  queryWith,
} from "../../data/fleet";
import { hub } from "../../data/hub";
import { count } from "../../data/number_format";
import { selectionOf } from "../../data/selection";
import { CONDITION_TEXTS, Icon, Shape } from "../../ui/icon";
import { matchScore, virtualWindow } from "../../ui/list";
import { newJobPath, route } from "../../ui/route";
import { withBase } from "../../wire/base_path";
import { EmptyFleet } from "../add_device/page";
import { FleetRow, typeOf } from "./row";

/** Row heights in rem, as in the style sheet. */
const ROW_REM = 3.5;
const PHONE_ROW_REM = 5.5;
const PHONE = "(max-width: 760px)";
/** The order is updated this often: rows do not move with every message. */
const SORT_EVERY_MS = 1000;

type SortKey = "state" | "name" | "type" | "age" | "backlog";

interface Sorting {
  key: SortKey;
  down: boolean;
}

interface FleetList {
  records: DeviceRecord[];
  /** Counts of all devices that match the search, whatever their condition. */
  counts: Record<FleetFilter, number>;
}

const words = signal("");
const filter = signal<FleetFilter | null>(null);

const NONE: Record<FleetFilter, number> = {
  online: 0,
  reconnecting: 0,
  silent: 0,
  offline: 0,
  unconnected: 0,
  stale: 0,
  retired: 0,
};
/** Conditions that have a chip while a device is in them. */
const UNUSUAL = ["silent", "reconnecting", "offline", "unconnected"] as const;
const FILTER_TEXTS: Record<FleetFilter, string> = { ...CONDITION_TEXTS, stale: "Stale metrics", retired: "Retired" };
const sorting = signal<Sorting>({ key: "state", down: false });

const SORTS: Record<SortKey, string> = {
  state: "State",
  name: "Device id",
  type: "Type",
  age: "Last reading",
  backlog: "Backlog",
};

/** Return whether a device of the fleet has a reading. */
function hasReading(): boolean {
  return [...hub.fleet.records.values()].some(({ metrics }) => metrics.value?.some(({ latest }) => latest !== null));
}

export function FleetPage() {
  useFilter();
  const shown = useFleetList();
  const isFirst = useRef(false);
  if (!hub.fleet.loaded.value) return <div class="fleet box" aria-busy="true" />;
  // The guide stays until the first reading: a device may be known because the hub refused all that it sent.
  isFirst.current = hub.fleet.records.size === 0 || (isFirst.current && !hasReading());
  if (isFirst.current && filter.value !== "retired") return <EmptyFleet />;
  return (
    <>
      <h1 class="hidden-text">Fleet</h1>
      <FleetBar {...shown} />
      <div class="fleet box" data-testid="fleet">
        <FleetHead />
        {shown.records.length === 0 ? (
          <p class="fleet-none">No device matches the filter. Try fewer letters or another state.</p>
        ) : (
          <FleetBody {...shown} />
        )}
      </div>
    </>
  );
}

/** Keep the filter in the address: a link to it shows the same, and the way back from a device does, too. */
function useFilter(): void {
  const shown = route.value;
  useLayoutEffect(() => {
    filter.value = filterOf(window.location.search);
  }, [shown]);
  useEffect(() => {
    ignore(hub.fleet.checkRetired());
  }, []);
  useEffect(() => {
    if (filter.value === "retired") ignore(hub.fleet.loadRetired());
  }, [filter.value]);
}

/** Without the retired devices, the page shows the others. */
function ignore(request: Promise<void>): void {
  request.catch(() => undefined);
}

function choose(chosen: FleetFilter | null): void {
  filter.value = chosen;
  const query = queryWith(window.location.search, chosen);
  history.replaceState(null, "", window.location.pathname + (query === "" ? "" : `?${query}`));
}

/** Return the sorted list: immediately after a change of the filter, otherwise once per second. */
function useFleetList(): FleetList {
  const [list, setList] = useState<FleetList>({ records: [], counts: NONE });
  const sortedAt = useRef(0);
  const update = () => {
    sortedAt.current = performance.now();
    setList(filterAndSort(words.value, filter.value, sorting.value));
  };
  useLayoutEffect(update, [words.value, filter.value, sorting.value, hub.fleet.records.size, hub.fleet.retired.size]);
  const version = hub.fleet.version.value;
  useEffect(() => {
    const timer = setTimeout(update, Math.max(0, sortedAt.current + SORT_EVERY_MS - performance.now()));
    return () => clearTimeout(timer);
  }, [version]);
  return list;
}

function FleetBar({ records, counts }: FleetList) {
  return (
    <div class="fleet-bar bar">
      <div class="chips">
        <Chip amount={counts.online + UNUSUAL.reduce((sum, value) => sum + counts[value], 0)} value={null} />
        <Chip amount={counts.online} value="online" />
        {([...UNUSUAL, "stale"] as const).map(
          (value) =>
            (counts[value] > 0 || filter.value === value) && <Chip key={value} amount={counts[value]} value={value} />,
        )}
        {(hub.fleet.hasRetired.value || filter.value === "retired") && (
          <Chip amount={filter.value === "retired" ? counts.retired : null} value="retired" />
        )}
      </div>
      <div class="search">
        <input
          class="field"
          data-search
          type="search"
          placeholder="Device id or tag"
          aria-label="Filter devices"
          value={words.value}
          onInput={(event) => {
            words.value = event.currentTarget.value;
          }}
          onKeyDown={(event) => {
            if (event.key !== "Escape") return;
            words.value = "";
            event.currentTarget.blur();
          }}
        />
        {words.value === "" && <kbd>/</kbd>}
      </div>
      <div class="fleet-actions row">
        {hub.canOperate && <SendLink records={records} />}
        <a class="button add-device" href={withBase("/add")} aria-label="Add a device">
          <Icon name="add" />
          <span class="word">Add a device</span>
        </a>
      </div>
      <select
        class="field sort"
        aria-label="Sort"
        value={sorting.value.key}
        onChange={(event) => {
          sorting.value = { key: event.currentTarget.value as SortKey, down: false };
        }}
      >
        {Object.entries(SORTS).map(([key, label]) => (
          <option key={key} value={key}>
            {label}
          </option>
        ))}
      </select>
    </div>
  );
}

/** Link to the page that sends a command, to the devices of the search if a selection has exactly those. */
function SendLink({ records }: { records: DeviceRecord[] }) {
  const to = useMemo(() => {
    if (words.value.trim() === "") return []; // thousands of devices are not compared each second for nothing
    const selectable = ({ device, state }: DeviceRecord) => ({ device, tags: state.peek().tags ?? {} });
    return selectionOf(words.value, records.map(selectable), [...hub.fleet.records.values()].map(selectable));
  }, [records]);
  return (
    <a
      class="button plain send-command"
      href={newJobPath(to)}
      aria-label="Send a command"
      title="Send a command"
      data-testid="send-to-fleet"
    >
      <Icon name="send" />
      <span class="word">Send a command</span>
    </a>
  );
}

/** Button of a filter; `amount` is null while it is not known. */
function Chip({ amount, value }: { amount: number | null; value: FleetFilter | null }) {
  return (
    <button
      type="button"
      class={`chip ${value ?? ""}`}
      aria-pressed={filter.value === value}
      data-testid={`chip-${value ?? "all"}`}
      onClick={() => choose(filter.peek() === value ? null : value)}
    >
      {value !== null && isCondition(value) && value !== "online" && <Shape condition={value} />}
      {value === null ? "All" : FILTER_TEXTS[value]} {amount !== null && count(amount)}
    </button>
  );
}

function isCondition(value: FleetFilter): value is Condition {
  return value in CONDITION_TEXTS;
}

function FleetHead() {
  return (
    <div class="fleet-head">
      <Sort by="state" />
      <Sort by="name" />
      <span class="metrics">Current values and the last 5 minutes</span>
      <Sort by="age" right />
      <Sort by="backlog" right />
    </div>
  );
}

function Sort({ by, right }: { by: SortKey; right?: boolean }) {
  const { key, down } = sorting.value;
  const active = key === by;
  return (
    <span class={right ? "right" : ""}>
      <button
        type="button"
        aria-pressed={active}
        title={`Sort by ${SORTS[by].toLowerCase()}`}
        onClick={() => {
          sorting.value = { key: by, down: active && !down };
        }}
      >
        {SORTS[by]}
        {active && <Icon name={down ? "down" : "up"} />}
      </button>
    </span>
  );
}

function FleetBody({ records }: FleetList) {
  const body = useRef<HTMLUListElement>(null);
  const rowHeight = (isPhone.value ? PHONE_ROW_REM : ROW_REM) * rem();
  useScroll(body);
  const { first, end, height } = virtualWindow(records.length, rowHeight, view.value.top, view.value.height);
  return (
    <ul class="fleet-body" ref={body} style={{ height: `${height}px` }} aria-label="Devices">
      {records.slice(first, end).map((record, index) => (
        <FleetRow key={record.device} record={record} top={(first + index) * rowHeight} />
      ))}
    </ul>
  );
}

const phone = matchMedia(PHONE);
const isPhone = signal(phone.matches);
phone.addEventListener("change", () => {
  isPhone.value = phone.matches;
});

/** The visible part of the list. */
const view = signal({ top: 0, height: window.innerHeight });

/** Keep the visible part up to date. */
function useScroll(body: { current: HTMLElement | null }): void {
  useLayoutEffect(() => {
    const measure = () => {
      const top = -(body.current?.getBoundingClientRect().top ?? 0);
      const height = window.innerHeight;
      if (top !== view.peek().top || height !== view.peek().height) view.value = { top, height };
    };
    measure();
    window.addEventListener("scroll", measure, { passive: true });
    window.addEventListener("resize", measure);
    return () => {
      window.removeEventListener("scroll", measure);
      window.removeEventListener("resize", measure);
    };
  }, [body]);
}

interface FleetEntry {
  record: DeviceRecord;
  condition: Condition;
}

const SEVERITY: Record<Condition, number> = { offline: 0, silent: 1, reconnecting: 2, online: 3, unconnected: 4 };
const ORDERS: Record<SortKey, (a: FleetEntry, b: FleetEntry) => number> = {
  state: (a, b) => severityOf(a) - severityOf(b),
  name: (a, b) => compareNames(a.record.device, b.record.device),
  type: (a, b) => compareNames(typeOf(a.record), typeOf(b.record)),
  age: (a, b) => lastReading(b.record) - lastReading(a.record),
  backlog: (a, b) => (a.record.state.peek().backlog ?? 0) - (b.record.state.peek().backlog ?? 0),
};

/** A device with a failed source comes before those that work. */
function severityOf({ record, condition }: FleetEntry): number {
  return SEVERITY[condition] - (failedSources(record.state.peek()).length > 0 ? 0.5 : 0);
}

/** Return the devices that match the search and the chosen filter, sorted. */
function filterAndSort(words: string, chosen: FleetFilter | null, { key, down }: Sorting): FleetList {
  const counts = { ...NONE };
  const entries: FleetEntry[] = [];
  for (const record of [...hub.fleet.records.values(), ...hub.fleet.retired.values()]) {
    const state = record.state.peek();
    const text = [record.device, ...Object.values(state.tags ?? {})].join(" ");
    if (words.trim() !== "" && matchScore(text, words) === null) continue;
    const condition = conditionOf(record);
    const filters: FleetFilter[] = state.retired ? ["retired"] : [condition];
    if (!state.retired && hasStaleMetric(record)) filters.push("stale");
    for (const filter of filters) counts[filter]++;
    if (chosen === null ? !state.retired : filters.includes(chosen)) entries.push({ record, condition });
  }
  const direction = down ? -1 : 1;
  entries.sort((a, b) => ORDERS[key](a, b) * direction || ORDERS.name(a, b));
  return { records: entries.map(({ record }) => record), counts };
}

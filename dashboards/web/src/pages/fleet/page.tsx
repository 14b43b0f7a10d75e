/** Fleet page: the list of all devices, with problems first. */

import { type Signal, signal } from "@preact/signals";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { rem } from "../../chart/theme_colours";
import { type Condition, conditionOf, type DeviceRecord } from "../../data/fleet";
import { hub } from "../../data/hub";
import { count } from "../../data/number_format";
import { hubNow } from "../../data/time";
import { Icon, Shape } from "../../ui/icon";
import { matchScore, virtualWindow } from "../../ui/list";
import { EmptyFleet } from "./empty";
import { FleetRow } from "./row";

/** Row heights in rem, as in the style sheet. */
const ROW_REM = 3.5;
const PHONE_ROW_REM = 5.5;
const PHONE = "(max-width: 760px)";
/** The order is updated this often: rows do not move with every message. */
const ARRANGE_EVERY_MS = 1000;

const words = signal("");
const condition = signal<Condition | null>(null);
const sorting = signal<Sorting>({ key: "state", down: false });

const SORTS: Record<SortKey, string> = {
  state: "State",
  name: "Name",
  type: "Type",
  age: "Last reading",
  backlog: "Backlog",
};

export function FleetPage() {
  const shown = useArranged();
  const total = hub.fleet.records.size;
  if (!hub.fleet.loaded.value) return <div class="fleet" aria-busy="true" />;
  if (total === 0) return <EmptyFleet />;
  return (
    <>
      <h1 class="hidden-text">Fleet</h1>
      <FleetBar shown={shown} />
      <div class="fleet" data-testid="fleet">
        <FleetHead />
        {shown.records.length === 0 ? (
          <p class="fleet-none">No device fits. Try fewer letters, or another state.</p>
        ) : (
          <FleetBody shown={shown} />
        )}
      </div>
    </>
  );
}

/** Return the sorted list: immediately after a change of the filter, otherwise once per second. */
function useArranged(): Shown {
  const [shown, setShown] = useState<Shown>({ records: [], counts: { online: 0, silent: 0, offline: 0 } });
  const asked = { words: words.value, condition: condition.value, sorting: sorting.value };
  const size = hub.fleet.records.size;
  const version = hub.fleet.version.value;
  const arrangedAt = useRef(0);
  useLayoutEffect(() => {
    arrangedAt.current = performance.now();
    setShown(filterAndSort(hub.fleet.records.values(), { ...asked, now: hubNow() }));
  }, [asked.words, asked.condition, asked.sorting, size]);
  useEffect(() => {
    const wait = Math.max(0, arrangedAt.current + ARRANGE_EVERY_MS - performance.now());
    const timer = setTimeout(() => {
      arrangedAt.current = performance.now();
      setShown(filterAndSort(hub.fleet.records.values(), { ...asked, now: hubNow() }));
    }, wait);
    return () => clearTimeout(timer);
  }, [version]);
  return shown;
}

function FleetBar({ shown }: { shown: Shown }) {
  const { counts } = shown;
  const all = counts.online + counts.silent + counts.offline;
  return (
    <div class="fleet-bar">
      <div class="chips">
        <Chip label="All" amount={all} value={null} />
        <Chip label="Online" amount={counts.online} value="online" />
        {(counts.silent > 0 || condition.value === "silent") && (
          <Chip label="Silent" amount={counts.silent} value="silent" />
        )}
        {(counts.offline > 0 || condition.value === "offline") && (
          <Chip label="Offline" amount={counts.offline} value="offline" />
        )}
      </div>
      <div class="search">
        <input
          class="field"
          data-search
          type="search"
          placeholder="Filter by name or tag"
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

function Chip({ label, amount, value }: { label: string; amount: number; value: Condition | null }) {
  const look = { online: "", silent: "quiet", offline: "wrong" }[value ?? "online"];
  return (
    <button
      type="button"
      class={`chip ${look}`}
      aria-pressed={condition.value === value}
      data-testid={`chip-${value ?? "all"}`}
      onClick={() => {
        condition.value = condition.peek() === value ? null : value;
      }}
    >
      {(value === "silent" || value === "offline") && <Shape condition={value} />}
      {label} <span class="amount">{count(amount)}</span>
    </button>
  );
}

function FleetHead() {
  return (
    <div class="fleet-head">
      <Sort by="state" />
      <Sort by="name" />
      <span class="metrics">Now, and the last 5 minutes</span>
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

function FleetBody({ shown }: { shown: Shown }) {
  const body = useRef<HTMLUListElement>(null);
  const rowHeight = useRowHeight();
  const view = useScroll(body);
  const { first, end, height } = virtualWindow(
    shown.records.length,
    rowHeight,
    view.value.top,
    view.value.height,
  );
  return (
    <ul class="fleet-body" ref={body} style={{ height: `${height}px` }} aria-label="Devices">
      {shown.records.slice(first, end).map((record, index) => (
        <FleetRow key={record.device} record={record} top={(first + index) * rowHeight} />
      ))}
    </ul>
  );
}

function useRowHeight(): number {
  const query = matchMedia(PHONE);
  const [phone, setPhone] = useState(query.matches);
  useEffect(() => {
    const change = () => setPhone(query.matches);
    query.addEventListener("change", change);
    return () => query.removeEventListener("change", change);
  }, [query]);
  return (phone ? PHONE_ROW_REM : ROW_REM) * rem();
}

const view = signal({ top: 0, height: window.innerHeight });

/** Return the visible part of the list. */
function useScroll(body: { current: HTMLElement | null }): Signal<{ top: number; height: number }> {
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
  return view;
}

export type SortKey = "state" | "name" | "type" | "age" | "backlog";

export interface Sorting {
  key: SortKey;
  down: boolean;
}

export interface Shown {
  records: DeviceRecord[];
  /** Counts of all devices that match the search, whatever their condition. */
  counts: Record<Condition, number>;
}

const SEVERITY: Record<Condition, number> = { offline: 0, silent: 1, online: 2 };
const byName = new Intl.Collator("en", { numeric: true }).compare;

export function typeOf(record: DeviceRecord): string {
  return record.state.peek().tags?.type ?? "";
}

function textOf(record: DeviceRecord): string {
  const tags = record.state.peek().tags ?? {};
  return [record.device, ...Object.values(tags)].join(" ");
}

export function filterAndSort(
  records: Iterable<DeviceRecord>,
  options: { words: string; condition: Condition | null; sorting: Sorting; now: number },
): Shown {
  const { words, condition, sorting, now } = options;
  const counts: Record<Condition, number> = { online: 0, silent: 0, offline: 0 };
  const shown: { record: DeviceRecord; is: Condition }[] = [];
  for (const record of records) {
    if (words.trim() !== "" && matchScore(textOf(record), words) === null) continue;
    const is = conditionOf(record, now);
    counts[is]++;
    if (condition === null || is === condition) shown.push({ record, is });
  }
  const direction = sorting.down ? -1 : 1;
  shown.sort((a, b) => {
    let order = 0;
    if (sorting.key === "state") order = SEVERITY[a.is] - SEVERITY[b.is];
    else if (sorting.key === "type") order = byName(typeOf(a.record), typeOf(b.record));
    else if (sorting.key === "age") order = b.record.lastReading_ms - a.record.lastReading_ms;
    else if (sorting.key === "backlog")
      order = (a.record.state.peek().backlog ?? 0) - (b.record.state.peek().backlog ?? 0);
    else order = byName(a.record.device, b.record.device);
    return order * direction || byName(a.record.device, b.record.device);
  });
  return { records: shown.map(({ record }) => record), counts };
}

/** Which devices the fleet list shows, and in which order. */

import { type Condition, conditionOf, type DeviceRecord } from "../../data/fleet";
import { fitness } from "../../ui/match";

export type SortKey = "state" | "name" | "type" | "age" | "backlog";

export interface Sorting {
  key: SortKey;
  down: boolean;
}

export interface Shown {
  records: DeviceRecord[];
  /** Of all devices that fit the words, whatever their condition. */
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

export function arrange(
  records: Iterable<DeviceRecord>,
  options: { words: string; condition: Condition | null; sorting: Sorting; now: number },
): Shown {
  const { words, condition, sorting, now } = options;
  const counts: Record<Condition, number> = { online: 0, silent: 0, offline: 0 };
  const shown: { record: DeviceRecord; is: Condition }[] = [];
  for (const record of records) {
    if (words.trim() !== "" && fitness(textOf(record), words) === null) continue;
    const is = conditionOf(record, now);
    counts[is]++;
    if (condition === null || is === condition) shown.push({ record, is });
  }
  const direction = sorting.down ? -1 : 1;
  shown.sort((a, b) => {
    let order = 0;
    if (sorting.key === "state") order = SEVERITY[a.is] - SEVERITY[b.is];
    else if (sorting.key === "type") order = byName(typeOf(a.record), typeOf(b.record));
    else if (sorting.key === "age") order = b.record.heard - a.record.heard;
    else if (sorting.key === "backlog")
      order = (a.record.state.peek().backlog ?? 0) - (b.record.state.peek().backlog ?? 0);
    else order = byName(a.record.device, b.record.device);
    return order * direction || byName(a.record.device, b.record.device);
  });
  return { records: shown.map(({ record }) => record), counts };
}

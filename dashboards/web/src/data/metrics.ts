/** Order, grouping and colours of a device's metrics. */

import type { DeviceMetric } from "../wire/api";

/** A metric and its latest reading. */
export type MetricDetails = Omit<DeviceMetric, "freshness">;

/** A metric without its reading. */
export type MetricHead = Omit<MetricDetails, "latest">;

/** Metrics that share a chart. */
export interface ChartGroup {
  /** The metric's name, or the common part of the names. */
  title: string;
  unit: string;
  metrics: MetricHead[];
}

/** Quantities that describe a device best; earlier ones matter more. */
const TELLING = [
  /temp/i,
  /cpu/i,
  /power/i,
  /pressure/i,
  /(^|[._-])(load|flow|speed|mem)/i,
  /humid/i,
  /vibration/i,
  /battery|fuel|level/i,
];
/** Counters and positions are less useful in a list. */
const QUIET = /total|count|odometer|starts|uptime|latitude|longitude|heading|bytes_|packets/i;

export function isState(type: MetricHead["type"]): boolean {
  return type === "string" || type === "boolean";
}

function isShare(unit: string): boolean {
  return unit === "%" || unit === "percent";
}

/** Return the `count` most informative metrics, with different units where possible. */
export function leadingMetrics<T extends MetricHead>(metrics: readonly T[], count: number): T[] {
  const rank = (head: T): number => {
    const telling = TELLING.findIndex((pattern) => pattern.test(head.metric));
    let score = telling < 0 ? 20 : telling;
    if (isState(head.type)) score += 12;
    // A total in percent is a state of the whole, and no counter: cpu.total says more than cpu.0.
    if (QUIET.test(head.metric) && !isShare(head.unit)) score += 30;
    if (stem(head.metric) !== null) score += 0.5;
    return score;
  };
  const ranked = metrics
    .map((head) => ({ head, score: rank(head) }))
    .sort((a, b) => a.score - b.score)
    .map(({ head }) => head);
  const chosen: T[] = [];
  // First one metric per unit, then one per numbered group, then the rest.
  const alike: ((a: T, b: T) => boolean)[] = [
    (a, b) => a.unit === b.unit,
    (a, b) => stem(a.metric) !== null && stem(a.metric) === stem(b.metric),
    () => false,
  ];
  for (const same of alike)
    for (const head of ranked)
      if (chosen.length < count && !chosen.includes(head) && !chosen.some((other) => same(other, head)))
        chosen.push(head);
  return chosen;
}

/** Return the colour of a series: the position of its metric in the device's list, the same on every page. */
export function colourOf(metrics: readonly { metric: string }[], metric: string): number {
  return Math.max(
    0,
    metrics.findIndex((head) => head.metric === metric),
  );
}

/** Return the name before a number or axis: cpu.core3 → cpu.core, accel.x → accel, net.eth0.rx → null. */
function stem(metric: string): string | null {
  const numbered = /^(.*?)[._\-/ ]?\d+$/.exec(metric)?.[1];
  if (numbered !== undefined && numbered !== "") return numbered;
  const axis = /^(.*)[._-][xyz]$/i.exec(metric)?.[1];
  return axis !== undefined && axis !== "" ? axis : null;
}

/**
 * Group metrics into charts, those of one unit side by side. Numbered metrics of one kind share a chart, any other
 * metric has its own. With `together`, all metrics of a unit share one.
 */
export function chartGroups(metrics: readonly MetricHead[], together: boolean): ChartGroup[] {
  const units = new Map<string, Map<string, ChartGroup>>();
  for (const head of metrics) {
    if (isState(head.type)) continue;
    const groups = units.get(head.unit) ?? new Map<string, ChartGroup>();
    units.set(head.unit, groups);
    const shared = together ? "" : stem(head.metric);
    const key = shared === null ? `one ${head.metric}` : `many ${shared}`;
    const group = groups.get(key);
    if (group !== undefined) group.metrics.push(head);
    else groups.set(key, { title: shared ?? "", unit: head.unit, metrics: [head] });
  }
  const all = [...units.values()].flatMap((groups) => [...groups.values()]);
  for (const group of all) if (group.metrics.length === 1) group.title = group.metrics[0].metric;
  return all;
}

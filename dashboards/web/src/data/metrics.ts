/** What is to be known of a device's metrics before their values: which matter most, which belong together, their colours. */

import type { MetricType } from "../wire/live";

export interface MetricHead {
  metric: string;
  type: MetricType;
  unit: string;
  description: string;
}

/** Metrics that share a chart. */
export interface ChartGroup {
  /** What the chart is called: the metric's name, or what its names have in common. */
  title: string;
  unit: string;
  metrics: MetricHead[];
}

/** Said by people first when they are asked how a thing is doing; earlier ones matter more. */
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
/** Counters and places say little in a list. */
const QUIET = /total|count|odometer|starts|uptime|latitude|longitude|heading|bytes_|packets/i;

export function isState(type: MetricType): boolean {
  return type === "string" || type === "boolean";
}

/** The metrics to show of a device where there is room for `count`, most telling first; units differ where they can. */
export function leadingMetrics<T extends MetricHead>(metrics: readonly T[], count: number): T[] {
  const rank = (head: T, position: number): number => {
    const telling = TELLING.findIndex((pattern) => pattern.test(head.metric));
    let score = telling < 0 ? 20 : telling;
    if (isState(head.type)) score += 12;
    if (QUIET.test(head.metric)) score += 30;
    return score + position / 1000;
  };
  const ranked = metrics
    .map((head, position) => ({ head, score: rank(head, position) }))
    .sort((a, b) => a.score - b.score)
    .map(({ head }) => head);
  const chosen: T[] = [];
  // First one of each unit, then one of each numbered kind, then whatever there is.
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

/** A series' colour: its metric's place in the device's list, so that it is the same on every page. */
export function colourOf(metrics: readonly { metric: string }[], metric: string): number {
  return Math.max(
    0,
    metrics.findIndex((head) => head.metric === metric),
  );
}

/** What a numbered metric's name has before its number or its last part: cpu.core3 → cpu.core, net.eth0.rx → null. */
function stem(metric: string): string | null {
  const numbered = /^(.*?)[._\-/ ]?\d+$/.exec(metric)?.[1];
  if (numbered !== undefined && numbered !== "") return numbered;
  const axis = /^(.*)[._-][xyz]$/i.exec(metric)?.[1];
  return axis !== undefined && axis !== "" ? axis : null;
}

/**
 * The charts of a device, those of one unit side by side: numbered metrics of one kind share a chart, any other has its own. With
 * `together`, all metrics of a unit share one.
 */
export function chartGroups(metrics: readonly MetricHead[], together: boolean): ChartGroup[] {
  const units = new Map<string, Map<string, ChartGroup>>();
  for (const head of metrics) {
    if (isState(head.type)) continue;
    let groups = units.get(head.unit);
    if (groups === undefined) {
      groups = new Map();
      units.set(head.unit, groups);
    }
    const common = together ? "" : stem(head.metric);
    const key = common === null ? `one ${head.metric}` : `many ${common}`;
    const group = groups.get(key);
    if (group !== undefined) group.metrics.push(head);
    else groups.set(key, { title: common ?? "", unit: head.unit, metrics: [head] });
  }
  const all = [...units.values()].flatMap((groups) => [...groups.values()]);
  for (const group of all) if (group.metrics.length === 1) group.title = group.metrics[0].metric;
  return all;
}

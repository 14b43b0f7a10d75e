/** Local times of a zone, with the order of records as evidence for the hour that occurs twice. As times.py. */

import { TimeRefused } from "./moments";

/** Series whose latest local time is remembered. When it is full, all are dropped and learned again. */
export const MAX_SERIES = 10_000;
const DAY_MS = 86_400_000;
/** Two ambiguous times further apart than this belong to different nights. */
const ONE_NIGHT_MS = DAY_MS / 2;

/** Offset of a zone from UTC at a moment, both in milliseconds. */
type OffsetAt = (utc_ms: number) => number;

/** Return the offsets of a zone. Throws RangeError for an unknown zone. */
function offsetsOf(zone: string): OffsetAt {
  if (zone === "" || zone === "UTC") return () => 0;
  const fields = { year: "numeric", month: "numeric", day: "numeric", hour: "numeric", minute: "numeric" } as const;
  const format = new Intl.DateTimeFormat("en-US", { ...fields, second: "numeric", hourCycle: "h23", timeZone: zone });
  return (utc_ms) => {
    const parts = new Map(format.formatToParts(utc_ms).map(({ type, value }) => [type, Number(value)]));
    const [year, month, day, hour, minute, second] = [...Object.keys(fields), "second"].map((name) =>
      Number(parts.get(name as Intl.DateTimeFormatPartTypes)),
    );
    return Date.UTC(year, month - 1, day, hour, minute, second) - Math.floor(utc_ms / 1000) * 1000;
  };
}

/** Return whether the browser knows a zone. */
export function isZone(zone: string): boolean {
  try {
    offsetsOf(zone);
    return true;
  } catch {
    return false;
  }
}

export type Ambiguous = "order" | "earlier" | "later" | "refuse";

interface Latest {
  local_ms: number;
  /** Direction of the times of the series: 1, -1, or 0 at first. */
  direction: number;
  /** 1 if the last time was the second of two, -1 if none was ambiguous. */
  fold: number;
}

/** Converter of local times of one zone to UTC. */
export class ZonedTimes {
  private readonly zone: string;
  private readonly decide: Ambiguous;
  private readonly offsetAt: OffsetAt;
  private readonly latest = new Map<string, Latest>();

  constructor(zone: string, decide: Ambiguous) {
    this.zone = zone;
    this.decide = decide;
    this.offsetAt = offsetsOf(zone);
  }

  /** Return a local time in UTC. Throws TimeRefused if it does not exist or cannot be decided. */
  toUtc(local_ms: number, series: string): number {
    if (this.zone === "" || this.zone === "UTC") return local_ms;
    const [before, after] = [this.offsetAt(local_ms - DAY_MS), this.offsetAt(local_ms + DAY_MS)];
    const found = [before, after].filter((offset) => this.offsetAt(local_ms - offset) === offset);
    if (found.length === 0)
      throw new TimeRefused(
        `${show(local_ms)} does not exist in ${this.zone}: clocks were put forward over it`,
        "zone",
      );
    const isAmbiguous = found.length === 2 && found[0] !== found[1];
    const fold = this.fold(local_ms, series, isAmbiguous);
    return local_ms - found[isAmbiguous ? fold : 0];
  }

  private fold(local_ms: number, series: string, isAmbiguous: boolean): number {
    if (isAmbiguous && this.decide !== "order") {
      if (this.decide === "refuse")
        throw new TimeRefused(`${show(local_ms)} occurs twice in ${this.zone}: clocks were put back`, "ambiguous");
      return this.decide === "later" ? 1 : 0;
    }
    const known = this.latest.get(series) ?? { local_ms, direction: 0, fold: -1 };
    let { direction, fold } = known;
    const distance = local_ms - known.local_ms;
    if (!isAmbiguous || Math.abs(distance) > ONE_NIGHT_MS) fold = -1;
    if (isAmbiguous) {
      const falls = direction < 0;
      if (fold < 0) fold = Number(falls);
      else if (distance < 0 !== falls && distance !== 0) {
        if (fold !== Number(falls))
          throw new TimeRefused(
            `${show(local_ms)} occurs twice in ${this.zone}, and the order of the records does not decide it`,
            'ambiguous = "earlier"',
          );
        fold = 1 - fold;
      }
    } else if (distance !== 0) direction = distance > 0 ? 1 : -1;
    if (this.latest.size >= MAX_SERIES) this.latest.clear();
    this.latest.set(series, { local_ms, direction, fold });
    return Math.max(fold, 0);
  }
}

function show(local_ms: number): string {
  return new Date(local_ms)
    .toISOString()
    .replace("T", " ")
    .replace(/\.000Z$|Z$/, "");
}

/** Times of one input in their order, to nanoseconds since 1970 UTC. As times.py. */

import { LargeNumber } from "../wire/exact_json";
import {
  DATE_ORDERS,
  type DateOrder,
  isDate,
  type Moment,
  ordersOf,
  parseMoment,
  shownTime,
  TimeRefused,
} from "./moments";
import type { RawValue } from "./record";
import { type Ambiguous, MAX_SERIES, ZonedTimes } from "./zones";

export const NS_PER_S = 1_000_000_000n;
const NS_PER_UNIT: Record<string, bigint> = { s: NS_PER_S, ms: 1_000_000n, us: 1000n, ns: 1n };
/** 1990-01-01: no digital logger has older readings; an earlier time is that of a clock that was not set. */
const EARLIEST_NS = 631_152_000n * NS_PER_S;
/** A time further in the future is marked: only a wrong clock is a day ahead. */
const AHEAD_NS = 86_400n * NS_PER_S;
const MAX_TIME_NS = 2n ** 63n - 1n;
const SINCE_2000_NS = 946_684_800n * NS_PER_S;
const EXCEL_EPOCH_MS = Date.UTC(1899, 11, 30);
/** Excel's day of the year 2310. */
const MAX_EXCEL_DAYS = 150_000;
const UPTIME_NS: Record<string, bigint> = { uptime_s: NS_PER_S, uptime_ms: 1_000_000n, uptime_us: 1000n };
/** Counters of milliseconds and microseconds on microcontrollers have 32 bits: 49.7 days, and 71.6 minutes. */
const ROLL_OVER = 2n ** 32n;
/** Smaller times of SenML are relative to now (RFC 8428, section 4.5.3). */
const SENML_RELATIVE_BELOW = 2n ** 28n;
/** A count below the bound has this unit. */
const UNIT_BY_SIZE = [
  [10n ** 11n, "s"],
  [10n ** 14n, "ms"],
  [10n ** 17n, "us"],
] as const;

/** Values of `time_format` that are read here; a pattern of strptime is not. */
export const TIME_WORDS: readonly string[] = [
  "auto",
  "iso8601",
  ...Object.keys(NS_PER_UNIT),
  "since_2000",
  "excel",
  ...Object.keys(UPTIME_NS),
  ...DATE_ORDERS,
];

const COUNT = /^[0-9]{1,19}(?:\.[0-9]{1,18})?$/;
const DECIMAL = /^([+-]?)([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?[0-9]{1,4}))?$/;

/** Reader of the times of one input. */
export class TimeReader {
  private dateOrder: DateOrder;
  private readonly timeFormat: string;
  private readonly localTimes: ZonedTimes;
  private readonly clocks = new Map<string, UptimeClock>();

  constructor(timeFormat: string, zone: string, ambiguous: Ambiguous) {
    this.dateOrder = DATE_ORDERS.find((order) => order === timeFormat) ?? "";
    this.timeFormat = this.dateOrder === "" ? timeFormat : "auto";
    this.localTimes = new ZonedTimes(zone, ambiguous);
  }

  /** Decide the order of day, month and year if only one fits all dates. */
  learn(texts: readonly string[]): void {
    if (this.dateOrder !== "") return;
    let orders = new Set<DateOrder>(DATE_ORDERS);
    for (const text of texts) {
      const fitting = ordersOf(text);
      if (fitting !== null && fitting.size > 0) orders = new Set([...orders].filter((order) => fitting.has(order)));
    }
    if (orders.size === 1) [this.dateOrder] = orders;
  }

  /**
   * Return a time, and whether it is outside of 1990 to a day from now. The times of one `series` are in order. `form`
   * is declared by the format; the rules' own time_format wins. Throws TimeRefused.
   */
  read(
    value: RawValue,
    nowNs: bigint,
    device: string,
    fields: readonly string[],
    form: string,
  ): { timeNs: bigint; isOdd: boolean } {
    const chosen = this.timeFormat === "auto" ? form : this.timeFormat;
    if (chosen in UPTIME_NS) return { timeNs: this.fromUptime(value, chosen, nowNs, device), isOdd: false };
    const timeNs = this.since1970(value, nowNs, JSON.stringify([device, ...fields]), chosen);
    if (timeNs < 0n || timeNs > MAX_TIME_NS) throw new TimeRefused(`${shownTime(value)} is not between 1970 and 2262`);
    return { timeNs, isOdd: timeNs < EARLIEST_NS || timeNs > nowNs + AHEAD_NS };
  }

  private since1970(value: RawValue, nowNs: bigint, series: string, form: string): bigint {
    if (form === "senml") {
      const count = countOf(value);
      return count.isBelow(SENML_RELATIVE_BELOW) ? nowNs + count.times(NS_PER_S) : count.times(NS_PER_S);
    }
    if (form === "since_2000") return SINCE_2000_NS + countOf(value).times(NS_PER_S);
    if (form === "excel") return this.fromExcel(countOf(value).toNumber(), series);
    if (form in NS_PER_UNIT) return countOf(value).times(NS_PER_UNIT[form]);
    const isCount = form === "auto" && typeof value === "string" && COUNT.test(value.trim()) && !isDate(value);
    if (typeof value === "string" && !isCount) return this.toUtc(parseMoment(value, this.dateOrder), series);
    return byMagnitude(value);
  }

  private fromExcel(days: number, series: string): bigint {
    if (days < 0 || days > MAX_EXCEL_DAYS) throw new TimeRefused(`${days} is not a day of a spreadsheet`);
    // A day has 86,400 seconds; milliseconds are finer than the digits that a spreadsheet keeps.
    const ms = EXCEL_EPOCH_MS + Math.round(days * 86_400_000);
    return this.toUtc({ ms, extraNs: 0, offset_ms: null }, series);
  }

  private toUtc({ ms, extraNs, offset_ms }: Moment, series: string): bigint {
    const utc_ms = offset_ms === null ? this.localTimes.toUtc(ms, series) : ms - offset_ms;
    return BigInt(utc_ms) * 1_000_000n + BigInt(extraNs);
  }

  private fromUptime(value: RawValue, form: string, nowNs: bigint, device: string): bigint {
    let clock = this.clocks.get(device);
    if (clock === undefined) {
      if (this.clocks.size >= MAX_SERIES) this.clocks.clear();
      clock = new UptimeClock(UPTIME_NS[form], form !== "uptime_s");
      this.clocks.set(device, clock);
    }
    const timeNs = clock.timeNs(countOf(value), nowNs);
    if (timeNs < 0n || timeNs > MAX_TIME_NS)
      throw new TimeRefused(`the uptime ${shownTime(value)} is not between 1970 and 2262`);
    return timeNs;
  }
}

/**
 * Clock of a device that counts since its start. The arrival of the first count defines the start. A smaller count than
 * before is a roll-over of the 32-bit counter if the arrivals agree with it, otherwise a restart of the device.
 */
class UptimeClock {
  private startNs: bigint | null = null;
  private lastNs = 0n;
  private lastArrivalNs = 0n;
  private readonly nsPerCount: bigint;
  private readonly rollsOver: boolean;

  constructor(nsPerCount: bigint, rollsOver: boolean) {
    this.nsPerCount = nsPerCount;
    this.rollsOver = rollsOver;
  }

  /** Return the time of a count that arrives now. */
  timeNs(count: Decimal, nowNs: bigint): bigint {
    const upNs = count.times(this.nsPerCount);
    if (this.startNs === null) this.startNs = nowNs - upNs;
    else if (upNs < this.lastNs) {
      const turnNs = ROLL_OVER * this.nsPerCount;
      const elapsedNs = nowNs - this.lastArrivalNs;
      const error = upNs + turnNs - this.lastNs - elapsedNs;
      const isNear = (error < 0n ? -error : error) <= 60n * NS_PER_S + elapsedNs / 100n;
      this.startNs = this.rollsOver && isNear ? this.startNs + turnNs : nowNs - upNs;
    }
    this.lastNs = upNs;
    this.lastArrivalNs = nowNs;
    return this.startNs + upNs;
  }
}

/** An exact decimal number: digits × 10^-scale. */
class Decimal {
  private readonly digits: bigint;
  private readonly scale: number;

  constructor(digits: bigint, scale: number) {
    this.digits = digits;
    this.scale = scale;
  }

  /** Return the whole part of the product, as int() of Python does. */
  times(factor: bigint): bigint {
    const product = this.digits * factor;
    return this.scale >= 0 ? product / 10n ** BigInt(this.scale) : product * 10n ** BigInt(-this.scale);
  }

  isBelow(bound: bigint): boolean {
    return this.scale >= 0 ? this.digits < bound * 10n ** BigInt(this.scale) : this.times(1n) < bound;
  }

  toNumber(): number {
    return Number(`${this.digits}e${-this.scale}`);
  }
}

/** Return a count. Throws TimeRefused. */
function countOf(value: RawValue): Decimal {
  const text = value instanceof LargeNumber ? value.text : typeof value === "object" ? "" : String(value).trim();
  if (typeof value === "boolean") throw new TimeRefused(`${value} is not a time`);
  const found = DECIMAL.exec(text);
  const refused = () => new TimeRefused(`${shownTime(value)} is not a count`, "time_format");
  if (found === null || `${found[2]}${found[3] ?? ""}` === "") throw refused();
  const fraction = found[3] ?? "";
  const exponent = Number(found[4] ?? 0);
  const digits = `${found[2]}${fraction}`.replace(/^0+(?=.)/, "");
  // Check before any power of ten: a number such as 1e999 would fill the memory.
  const magnitude = digits.length - fraction.length + exponent;
  if (digits !== "0" && (magnitude > 20 || magnitude < -400)) throw refused();
  if (typeof value === "bigint") return new Decimal(value, 0);
  const count = new Decimal(BigInt(`${found[1] === "-" ? "-" : ""}${digits}`), fraction.length - exponent);
  const whole = count.times(1n);
  if (whole > MAX_TIME_NS || whole < -MAX_TIME_NS) throw refused();
  return count;
}

function byMagnitude(value: RawValue): bigint {
  const count = countOf(value);
  for (const [bound, unit] of UNIT_BY_SIZE)
    if (count.isBelow(bound) && !count.isBelow(-bound + 1n)) return count.times(NS_PER_UNIT[unit]);
  return count.times(1n);
}

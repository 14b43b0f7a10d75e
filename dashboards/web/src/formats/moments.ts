/** Dates with times of day in the forms that devices and programs write. As `parse_moment` of times.py. */

import { quoted, type RawValue } from "./record";

/** Characters of an invalid time that an error repeats. Every valid time is shorter. */
const MAX_SHOWN = 40;
export const DATE_ORDERS = ["day_first", "month_first", "year_first"] as const;
/** Order of the numbers in dates such as 03/04/26. */
export type DateOrder = (typeof DATE_ORDERS)[number] | "";

/** A text or a number that is not a time; `setting` decides it if it can be one. */
export class TimeRefused extends Error {
  readonly setting: string;
  constructor(reason: string, setting = "") {
    super(reason);
    this.setting = setting;
  }
}

/**
 * A time that was read: milliseconds since 1970, the nanoseconds that do not fit, and the offset from UTC in
 * milliseconds, null for a local time.
 */
export interface Moment {
  ms: number;
  extraNs: number;
  offset_ms: number | null;
}

const MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split(" ");
const COMPACT = /^(?:19|20)[0-9]{6}(?:[0-9]{6})?$/;
const ISO_DATE =
  "(?<y>[0-9]{4})(?:-(?<mo>[0-9]{2})-(?<d>[0-9]{2})|(?<cmo>[0-9]{2})(?<cd>[0-9]{2})|-?W(?<w>[0-9]{2})(?:-?(?<wd>[0-9]))?)";
const ISO_TIME =
  "(?<h>[0-9]{2})(?:(?<c>:?)(?<m>[0-9]{2})(?:\\k<c>(?<s>[0-9]{2})(?:[.,](?<f>[0-9]+))?)?)?(?<zone>Z|[+-][0-9]{2}(?::?[0-9]{2}(?::?[0-9]{2}(?:[.][0-9]+)?)?)?)?";
const ISO = new RegExp(`^${ISO_DATE}(?:.${ISO_TIME})?$`, "su");
const MOMENT =
  /^(?:[a-z]{3,9}\.?,? +)?(?:(?<a>[0-9]{1,4})(?<sep>[./-])(?<b>[0-9]{1,2}|[a-z]{3,9})\k<sep>(?<c>[0-9]{1,4})|(?<day>[0-9]{1,2})\.? +(?<month>[a-z]{3,9})\.?,? +(?<year>[0-9]{4})|(?<month2>[a-z]{3,9})\.? +(?<day2>[0-9]{1,2}),? +(?<year2>[0-9]{4})|(?<year3>[0-9]{4})-(?<ordinal>[0-9]{3}))(?:(?:[t,]| ) *(?<h>[0-9]{1,2}):(?<m>[0-9]{2})(?::(?<s>[0-9]{2})(?:[.,](?<f>[0-9]{1,18}))?)? *(?<half>[ap]\.?m\.?)?)? *(?<zone>z|(?:utc|gmt)?[+-][0-9]{1,2}(?::?[0-9]{2})?|utc|gmt)?$/;
const COMPACT_DAY_END = /^([0-9]{8})T?24(?::?00){1,2}(Z|[+-][0-9]{2}:?[0-9]{2})?$/;
const ZONE = /^(?:utc|gmt)?([+-])([0-9]{1,2})(?::?([0-9]{2}))?(?::?([0-9]{2}))?/i;
const DAY_MS = 86_400_000;

type Groups = Record<string, string | undefined>;
type CalendarDate = [year: number, month: number, day: number];

/** Return a date and a time of day in milliseconds, null if they do not exist. */
function calendarMs([year, month, day]: CalendarDate, hour = 0, minute = 0, second = 0): number | null {
  const date = new Date(0);
  date.setUTCFullYear(year, month - 1, day);
  const exists = date.getUTCFullYear() === year && date.getUTCMonth() === month - 1 && date.getUTCDate() === day;
  if (!exists || year < 1 || year > 9999 || hour > 23 || minute > 59 || second > 59) return null;
  return date.getTime() + ((hour * 60 + minute) * 60 + second) * 1000;
}

/** Return a time. Throws TimeRefused. */
export function parseMoment(text: string, order: DateOrder = ""): Moment {
  const stripped = text.trim();
  const digits = COMPACT.test(stripped) && stripped.length === 14;
  if (digits) {
    const parts = [4, 6, 8, 10, 12].map((at) => Number(stripped.slice(at, at + 2)));
    const ms = calendarMs([Number(stripped.slice(0, 4)), parts[0], parts[1]], parts[2], parts[3], parts[4]);
    if (ms !== null) return { ms, extraNs: 0, offset_ms: null };
  }
  return parseIso(stripped) ?? parseForm(stripped, order);
}

function parseIso(text: string): Moment | null {
  const found = ISO.exec(text)?.groups as Groups | undefined;
  if (found === undefined) return null;
  const date =
    found.w === undefined
      ? ([Number(found.y), Number(found.mo ?? found.cmo), Number(found.d ?? found.cd)] as CalendarDate)
      : weekDate(found);
  if (date === null) return null;
  const ms = calendarMs(date, Number(found.h ?? 0), Number(found.m ?? 0), Number(found.s ?? 0));
  const offset_ms = offsetOf(found.zone);
  return ms === null || offset_ms === undefined ? null : withFraction(ms, found.f, offset_ms);
}

function weekDate({ y, w, wd }: Groups): CalendarDate | null {
  const [year, week, day] = [Number(y), Number(w), Number(wd ?? 1)];
  const fourth = new Date(0);
  fourth.setUTCFullYear(year, 0, 4);
  const monday = fourth.getTime() - ((fourth.getUTCDay() + 6) % 7) * DAY_MS;
  const date = new Date(monday + ((week - 1) * 7 + day - 1) * DAY_MS);
  // Thursday is in the year of its week.
  const thursday = new Date(monday + ((week - 1) * 7 + 3) * DAY_MS);
  if (week < 1 || day < 1 || day > 7 || thursday.getUTCFullYear() !== year) return null;
  return [date.getUTCFullYear(), date.getUTCMonth() + 1, date.getUTCDate()];
}

function withFraction(ms: number, fraction: string | undefined, offset_ms: number | null): Moment {
  const nanoseconds = Number((fraction ?? "").padEnd(9, "0").slice(0, 9));
  return { ms: ms + Math.floor(nanoseconds / 1e6), extraNs: nanoseconds % 1e6, offset_ms };
}

function parseForm(text: string, order: DateOrder): Moment {
  const found =
    text.length <= MAX_SHOWN * 2 ? (MOMENT.exec(text.toLowerCase())?.groups as Groups | undefined) : undefined;
  if (found === undefined) return parseCompactDayEnd(text);
  const date = dateOf(found, text, order);
  let hour = Number(found.h ?? 0);
  if (found.half !== undefined) {
    if (hour < 1 || hour > 12) throw new TimeRefused(`${shownTime(text)} has an hour that does not exist`);
    hour = (hour % 12) + (found.half.startsWith("p") ? 12 : 0);
  }
  const [minute, second] = [Number(found.m ?? 0), Number(found.s ?? 0)];
  const isDayEnd = hour === 24 && minute === 0 && second === 0 && Number((found.f ?? "0").slice(0, 9)) === 0;
  const ms = calendarMs(date, isDayEnd ? 0 : hour, minute, second);
  const offset_ms = offsetOf(found.zone);
  if (ms === null || offset_ms === undefined) throw new TimeRefused(`${shownTime(text)} is not a time that exists`);
  return withFraction(ms + (isDayEnd ? DAY_MS : 0), found.f, offset_ms);
}

/** Return a time such as 20240131T240000Z. */
function parseCompactDayEnd(text: string): Moment {
  const found = COMPACT_DAY_END.exec(text);
  if (found === null) throw new TimeRefused(`${shownTime(text)} is not a time`, "time_format");
  const moment = parseIso(`${found[1]}T000000${found[2] ?? ""}`);
  if (moment === null) throw new TimeRefused(`${shownTime(text)} is not a time that exists`);
  return { ...moment, ms: moment.ms + DAY_MS };
}

function dateOf(found: Groups, text: string, order: DateOrder): CalendarDate {
  if (found.ordinal !== undefined) {
    const year = Number(found.year3) || 1;
    const date = new Date(0);
    date.setUTCFullYear(year, 0, Number(found.ordinal));
    if (date.getUTCFullYear() !== year) throw new TimeRefused(`${shownTime(text)} has a day that does not exist`);
    return [year, date.getUTCMonth() + 1, date.getUTCDate()];
  }
  const name = found.month ?? found.month2;
  if (name !== undefined)
    return [Number(found.year ?? found.year2), monthOf(name, text), Number(found.day ?? found.day2)];
  const { a = "", b = "", c = "" } = found;
  if (!/^[0-9]/.test(b))
    return a.length === 4 ? [Number(a), monthOf(b, text), Number(c)] : [yearOf(c), monthOf(b, text), Number(a)];
  if (a.length >= 3) return [Number(a), Number(b), Number(c)];
  return decidedDate(datesOf(found), text, order);
}

function decidedDate(dates: Map<DateOrder, CalendarDate>, text: string, order: DateOrder): CalendarDate {
  const [first] = dates.values();
  if (first === undefined) throw new TimeRefused(`${shownTime(text)} is not a time that exists`);
  const decided = dates.get(order);
  if (decided === undefined && new Set([...dates.values()].map(String)).size > 1) {
    const orders = [...dates.keys()];
    const firsts = orders.map((name) => `the ${name.split("_")[0]}`).join(" or ");
    throw new TimeRefused(
      `${shownTime(text)} can have ${firsts} first, and no other date decides it`,
      orders.map((name) => `time_format = "${name}"`).join(" or "),
    );
  }
  return decided ?? first;
}

/** Return a date such as 03/04/26 in each order that its numbers can have. Between points, the day is always first. */
function datesOf({ a = "", b = "", c = "", sep }: Groups): Map<DateOrder, CalendarDate> {
  const [first, second, third] = [Number(a), Number(b), Number(c)];
  if (sep === ".") return new Map([["day_first", [yearOf(c), second, first]]]);
  const dates: [DateOrder, CalendarDate][] = [
    ["day_first", [yearOf(c), second, first]],
    ["month_first", [yearOf(c), first, second]],
  ];
  if (c.length < 3) dates.push(["year_first", [yearOf(a), second, third]]);
  return new Map(dates.filter(([, [, month, day]]) => month >= 1 && month <= 12 && day >= 1 && day <= 31));
}

/** Return the orders that fit the date in a text, null if the text has no such date. */
export function ordersOf(text: string): Set<DateOrder> | null {
  const found = MOMENT.exec(text.trim().toLowerCase())?.groups as Groups | undefined;
  if (found === undefined || (found.sep !== "/" && found.sep !== "-")) return null;
  if ((found.a ?? "").length >= 3 || !/^[0-9]+$/.test(found.b ?? "")) return null;
  return new Set(datesOf(found).keys());
}

/** Return whether digits are a calendar date: 20260131, or 20260131235959, which would be no count either. */
export function isDate(text: string): boolean {
  const digits = text.trim();
  if (!COMPACT.test(digits)) return false;
  try {
    parseMoment(digits);
    return true;
  } catch {
    return false;
  }
}

function monthOf(name: string, text: string): number {
  const month = MONTHS.indexOf(name.slice(0, 3)) + 1;
  if (month === 0) throw new TimeRefused(`${shownTime(text)} has no month that is known`);
  return month;
}

/** Return the year; two digits are 1970 to 2069, as in POSIX. */
function yearOf(digits: string): number {
  const year = Number(digits);
  if (digits.length > 2) return year;
  return year + (year < 70 ? 2000 : 1900);
}

/** Return the offset of a zone such as Z or +01:00; null without a zone, undefined for an offset of a day or more. */
function offsetOf(text: string | undefined): number | null | undefined {
  if (text === undefined) return null;
  const found = ZONE.exec(text);
  if (found === null) return 0;
  const [hours, minutes, seconds] = [found[2], found[3], found[4]].map((part) => Number(part ?? 0));
  const offset_ms = ((hours * 60 + minutes) * 60 + seconds) * 1000;
  if (offset_ms >= DAY_MS) return undefined;
  return found[1] === "-" ? -offset_ms : offset_ms;
}

/** Return a time for a sentence: a text in quotes, and of a bounded length. */
export function shownTime(value: RawValue): string {
  const text = typeof value === "object" && value !== null ? "an object" : String(value);
  const cut = text.length <= MAX_SHOWN ? text : `${text.slice(0, MAX_SHOWN)}…`;
  return typeof value === "string" ? quoted(cut) : cut;
}

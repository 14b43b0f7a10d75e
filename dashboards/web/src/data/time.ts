import { signal } from "@preact/signals";

/** A range of time in milliseconds since 1970 UTC. */
export interface TimeRange {
  from: number;
  to: number;
}

let offset_ms = 0;

function monotonicNow(): number {
  return performance.timeOrigin + performance.now();
}

/** Set the clock to a time that the hub just reported. */
export function setHubTime(time_ms: number): void {
  offset_ms = time_ms - monotonicNow();
}

/** Return the hub's time in milliseconds since 1970 UTC. It follows the browser's monotonic clock. */
export function hubNow(): number {
  return monotonicNow() + offset_ms;
}

/** The hub's time in milliseconds, updated once per second while the page is visible. */
export const now = signal(hubNow());
/** The same for `performance.now()`. */
export const pageNow = signal(performance.now());

export function startTicking(): void {
  const tick = () => {
    if (document.visibilityState === "hidden") return;
    now.value = hubNow();
    pageNow.value = performance.now();
  };
  setInterval(tick, 1000);
  document.addEventListener("visibilitychange", tick);
}

export const SECOND = 1000;
export const MINUTE = 60 * SECOND;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

const twoDigits = (value: number) => String(value).padStart(2, "0");
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/**
 * Convert nanoseconds to milliseconds. A number has no room for today's nanoseconds, so that an answer's times are
 * 128 ns off at most: rounded to microseconds, whole milliseconds stay exact.
 */
export function millisecondsOf(time_ns: number): number {
  return Math.round(time_ns / 1000) / 1000;
}

/** Return 14:03, 14:03:27 or 14:03:27.250 in local time. */
export function clock(time_ms: number, digits: "minutes" | "seconds" | "milliseconds" = "seconds"): string {
  const date = new Date(time_ms);
  const minutes = `${twoDigits(date.getHours())}:${twoDigits(date.getMinutes())}`;
  if (digits === "minutes") return minutes;
  const seconds = `${minutes}:${twoDigits(date.getSeconds())}`;
  return digits === "seconds" ? seconds : `${seconds}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}

/** Return 23 Nov, with the year if it is not the current year. */
export function day(time_ms: number, now_ms: number): string {
  const date = new Date(time_ms);
  const name = `${date.getDate()} ${MONTHS[date.getMonth()]}`;
  return date.getFullYear() === new Date(now_ms).getFullYear() ? name : `${name} ${date.getFullYear()}`;
}

/** Return the clock time, with the date if it is not today. */
export function dateTime(time_ms: number, now_ms: number, digits: "minutes" | "seconds" = "seconds"): string {
  const today = new Date(time_ms).toDateString() === new Date(now_ms).toDateString();
  return today ? clock(time_ms, digits) : `${day(time_ms, now_ms)} ${clock(time_ms, digits)}`;
}

/** Return a duration in at most two units: 4 s, 3 min 12 s, 2 h 5 min, 3 d 4 h. */
export function duration(span_ms: number): string {
  const span = Math.max(0, span_ms);
  if (span < SECOND) return `${Math.round(span)} ms`;
  if (span < MINUTE) return `${Math.floor(span / SECOND)} s`;
  if (span < HOUR) return pair(span, MINUTE, "min", SECOND, "s");
  if (span < DAY) return pair(span, HOUR, "h", MINUTE, "min");
  return pair(span, DAY, "d", HOUR, "h");
}

function pair(span: number, large: number, largeName: string, small: number, smallName: string): string {
  const rest = Math.floor((span % large) / small);
  return `${Math.floor(span / large)} ${largeName}${rest > 0 ? ` ${rest} ${smallName}` : ""}`;
}

/** Return an age in one unit, or "now" below two seconds. */
export function age(span_ms: number): string {
  const span = Math.max(0, span_ms);
  if (span < 2 * SECOND) return "now";
  if (span < MINUTE) return `${Math.floor(span / SECOND)} s`;
  if (span < HOUR) return `${Math.floor(span / MINUTE)} min`;
  if (span < DAY) return `${Math.floor(span / HOUR)} h`;
  return `${Math.floor(span / DAY)} d`;
}

/** Return an age in words: just now, 4 s ago. */
export function ago(span_ms: number): string {
  const text = age(span_ms);
  return text === "now" ? "just now" : `${text} ago`;
}

/** Return a clock offset with its sign in a suitable unit: +2.1 ms, −3.4 s, +12 min. */
export function clockOffset(offset_ns: number): string {
  const sign = offset_ns < 0 ? "−" : "+";
  return `${sign}${shortDuration(Math.abs(offset_ns) / 1e6)}`;
}

/** Return a short duration with one decimal: 0.4 ms, 12.3 s. */
export function shortDuration(span_ms: number): string {
  if (span_ms < SECOND) return `${span_ms.toFixed(1)} ms`;
  if (span_ms < MINUTE) return `${(span_ms / SECOND).toFixed(1)} s`;
  return duration(span_ms);
}

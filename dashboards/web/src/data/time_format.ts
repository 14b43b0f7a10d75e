/** Times and durations as people read them. */

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

const two = (value: number) => String(value).padStart(2, "0");
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/** 14:03, 14:03:27 or 14:03:27.250, in local time. */
export function clock(time_ms: number, digits: "minutes" | "seconds" | "milliseconds" = "seconds"): string {
  const date = new Date(time_ms);
  const minutes = `${two(date.getHours())}:${two(date.getMinutes())}`;
  if (digits === "minutes") return minutes;
  const seconds = `${minutes}:${two(date.getSeconds())}`;
  return digits === "seconds" ? seconds : `${seconds}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}

/** 23 Nov, with the year when it is not this one's. */
export function day(time_ms: number, now_ms: number): string {
  const date = new Date(time_ms);
  const name = `${date.getDate()} ${MONTHS[date.getMonth()]}`;
  return date.getFullYear() === new Date(now_ms).getFullYear() ? name : `${name} ${date.getFullYear()}`;
}

/** The clock, with the day before it when that is not today. */
export function moment(time_ms: number, now_ms: number, digits: "minutes" | "seconds" = "seconds"): string {
  const today = new Date(time_ms).toDateString() === new Date(now_ms).toDateString();
  return today ? clock(time_ms, digits) : `${day(time_ms, now_ms)} ${clock(time_ms, digits)}`;
}

/** How long something lasts, in at most two units: 4 s, 3 min 12 s, 2 h 5 min, 3 d 4 h. */
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

/** How long ago, in one unit; "now" for what has just come. */
export function age(span_ms: number): string {
  const span = Math.max(0, span_ms);
  if (span < 2 * SECOND) return "now";
  if (span < MINUTE) return `${Math.floor(span / SECOND)} s`;
  if (span < HOUR) return `${Math.floor(span / MINUTE)} min`;
  if (span < DAY) return `${Math.floor(span / HOUR)} h`;
  return `${Math.floor(span / DAY)} d`;
}

/** A clock's offset with its sign, in the unit that fits: +2.1 ms, −3.4 s, +12 min. */
export function offset(offset_ns: number): string {
  const sign = offset_ns < 0 ? "−" : "+";
  return `${sign}${precise(Math.abs(offset_ns) / 1e6)}`;
}

/** A short span with one decimal: 0.4 ms, 12.3 s. */
export function precise(span_ms: number): string {
  if (span_ms < SECOND) return `${span_ms.toFixed(1)} ms`;
  if (span_ms < MINUTE) return `${(span_ms / SECOND).toFixed(1)} s`;
  return duration(span_ms);
}

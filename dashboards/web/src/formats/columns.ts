/** Columns of a table: the cells of a line, the delimiter, names, units, and the columns of the time. As columns.py. */

import { parseMoment, TimeRefused } from "./moments";
import { FrameRefused } from "./record";
import { isKnownUnit, unitSymbol } from "./units";
import { cleaned, INFINITE, MAX_UNIT, NO_VALUE, writtenNumber } from "./values";

const DELIMITERS = [",", ";", "\t", "|"];
/** Delimiter of a table with one column: numbers with commas do not have it. */
const ONE_COLUMN = ";";

const list = (text: string) => text.split("|");
const TIME_NAMES = list(
  "time|timestamp|datetime|date time|date_time|date/time|date|ts|_time|datum|zeit|uhrzeit|zeitstempel|datum/zeit|utc|time (utc)|zeitpunkt|last_changed|last_updated",
);
const ZONE_NAMES = list("time zone|timezone|zone|tz|utc offset|offset");
export const DEVICE_NAMES = list("device|device_id|deviceid|host|hostname|sensor|sensor_id|station|machine|gerät");
export const METRIC_NAMES = list(
  "metric|field|_field|variable|parameter|quantity|measurement|name|tag|series|entity_id",
);
export const VALUE_NAMES = list("value|_value|wert|reading|state");
/** Names of the column with the unit of each reading, in a table with a column of metrics. */
export const UNIT_NAMES = list("unit|units|unit_of_measurement|uom|einheit");

export const SEPARATOR_LINE = /^"?sep=(.)"?$/u;
const UNIT = /^(.+?)\s*(?:\[([^[\]]+)\]|\(([^()]+)\))\s*$/;
/** Beginnings of lines that only InfluxDB's annotated tables have. */
const ANNOTATIONS = ["#group", "#datatype", "#default", "#constant"];
/** Cells of a column that decide whether it is the time. */
const MAX_EVIDENCE = 100;

/** Return the cells of a line. Throws FrameRefused for a quote that is not closed, or is followed by text. */
export function cellsOf(text: string, delimiter: string): string[] {
  if (!text.includes('"')) return text.split(delimiter);
  const cells: string[] = [];
  for (let position = 0; ; position += delimiter.length) {
    let start = position;
    while (text[start] === " ") start++;
    let cell: string;
    if (text[start] === '"') [cell, position] = quotedCell(text, start + 1, delimiter);
    else {
      const end = text.indexOf(delimiter, position);
      cell = text.slice(position, end < 0 ? text.length : end);
      position = end < 0 ? text.length : end;
    }
    cells.push(cell);
    if (position >= text.length) return cells;
  }
}

/** Return a quoted cell and the position behind it. */
function quotedCell(text: string, first: number, delimiter: string): [cell: string, end: number] {
  let cell = "";
  let start = first;
  for (;;) {
    const end = text.indexOf('"', start);
    if (end < 0)
      throw new FrameRefused("quote", "a quote is not closed in this line, and the next line is a record of its own");
    cell += text.slice(start, end);
    start = end + 1;
    if (text[start] !== '"') break;
    cell += '"';
    start++;
  }
  const found = text.indexOf(delimiter, start);
  const after = found < 0 ? text.length : found;
  if (!/^[ \r]*$/.test(text.slice(start, after)))
    throw new FrameRefused("syntax", "text follows the closing quote of a cell");
  return [cell, after];
}

/** Return the cells of a line, null if it has none that can be read. */
export function tryCells(text: string, delimiter: string): string[] | null {
  try {
    return cellsOf(text, delimiter);
  } catch (error) {
    if (error instanceof FrameRefused) return null;
    throw error;
  }
}

/** Return the name of the program whose tables begin with such lines, "" for a plain table. */
export function programOf(texts: readonly string[], delimiter: string): string {
  const first = (texts[0] ?? "").replace(/^"+/, "");
  if (first.startsWith("TOA5") && (first[4] === '"' || first[4] === delimiter)) return "TOA5 (Campbell)";
  if (first.startsWith("Plot Title")) return "HOBO (Onset)";
  const isAnnotated = texts.slice(0, 5).some((text) => ANNOTATIONS.some((mark) => text.startsWith(mark)));
  return isAnnotated ? "annotated CSV (InfluxDB)" : "";
}

/** Return the delimiter that gives most lines the same number of cells, and the most cells. */
export function delimiterOf(texts: readonly string[]): string {
  const found = SEPARATOR_LINE.exec(texts[0] ?? "");
  if (found !== null) return found[1];
  if (isOneColumn(texts)) return ONE_COLUMN;
  let best = ",";
  let [bestShare, bestWidth] = [0, 0];
  for (const delimiter of DELIMITERS) {
    const widths = texts.flatMap((text) => tryCells(text, delimiter)?.length ?? []);
    if (widths.length === 0) continue;
    const [width, often] = mostCommon(widths);
    const [share, cells] = width > 1 ? [often / widths.length, width] : [0, 0];
    const isBetter = share > bestShare || (share === bestShare && cells > bestWidth);
    if (isBetter && (share > bestShare + 0.1 || width > bestWidth))
      [best, bestShare, bestWidth] = [delimiter, share, cells];
  }
  return best;
}

/** Return the most frequent number, the first of several, and how often it occurs. */
export function mostCommon(numbers: readonly number[]): [number: number, often: number] {
  const counts = new Map<number, number>();
  for (const number of numbers) counts.set(number, (counts.get(number) ?? 0) + 1);
  let best: [number, number] = [0, 0];
  for (const entry of counts) if (entry[1] > best[1]) best = entry;
  return best;
}

/** Return whether lines are one name and, below it, single numbers that have commas: parts of a number. */
export function isOneColumn(texts: readonly string[]): boolean {
  const lines = texts.filter((text) => text.trim() !== "" && !text.startsWith("#"));
  if (lines.length < 2 || DELIMITERS.some((mark) => lines[0].includes(mark)) || !isHeader(lines.slice(0, 1)))
    return false;
  const cells = lines.slice(1).map((line) => cleaned(line.trim().replace(/^"+|"+$/g, "")));
  const areNumbers = cells.every((cell) => writtenNumber(cell) !== null || NO_VALUE.has(cell.toLowerCase()));
  return areNumbers && cells.some((cell) => cell.includes(","));
}

/** Return the text of each header, or the number of its column, counted from 1. */
export function headerTexts(cells: readonly string[]): string[] {
  const texts = cells.map((cell) => cell.trim().split(/\s+/).join(" "));
  if (texts.length > 0 && texts[0].startsWith("#") && texts[0].length > 1) texts[0] = texts[0].slice(1).trim();
  return texts.map((text, position) => text || String(position + 1));
}

/** Return a unique name for each column: a text that occurs again gets its number, as in `temp (2)`. */
export function uniqueNames(texts: readonly string[]): string[] {
  const known = new Set<string>();
  return texts.map((wanted) => {
    let name = wanted;
    for (let occurrence = 2; known.has(name); occurrence++) name = `${wanted} (${occurrence})`;
    known.add(name);
    return name;
  });
}

/** Split a header such as "Temperature [°C]" into name and unit. A number, as in "Channel (2)", is no unit. */
export function nameAndUnit(column: string): [name: string, unit: string] {
  const found = UNIT.exec(column);
  const unit = (found?.[2] ?? found?.[3] ?? "").trim();
  if (found === null || unit === "" || /^[0-9]+$/.test(unit) || unit.length > MAX_UNIT) return [column, ""];
  return [found[1], unitSymbol(unit)];
}

/**
 * Return the columns of the time: one with a usual name that contains times, or neighbours with date and time. Without
 * any, a column with a usual name is the time, so that its lines are refused, unless it is one of `stored`.
 */
export function timeColumns(columns: ReadonlyMap<string, string[]>, stored: ReadonlySet<string>): string[] {
  const names = [...columns.keys()];
  const cells = (name: string) => columns.get(name) ?? [];
  const isMostly = (name: string, test: (cell: string) => boolean) => share(cells(name), test) > 0.5;
  const likely = names.filter((name) => TIME_NAMES.includes(plainName(name)));
  const full = likely.find((name) => isMostly(name, isFullTime));
  if (full !== undefined) return [full];
  for (const [place, first] of names.slice(0, -1).entries()) {
    const second = names[place + 1];
    const isNamed = likely.includes(first) || likely.includes(second);
    if (isNamed && isMostly(first, isDateOnly) && isMostly(second, isTimeOfDay))
      return [first, second, ...zoneColumn(names[place + 2], columns)];
  }
  const dated = likely.find((name) => isMostly(name, (cell) => isFullTime(cell) || isDateOnly(cell)));
  if (dated !== undefined) return [dated];
  // A table without a header: its first column looks like nothing else.
  if (names.every((name) => /^[0-9]+$/.test(name)) && share(cells(names[0]), isSince2001) === 1)
    return names.slice(0, 1);
  const found = names.find((name) => isMostly(name, (cell) => isFullTime(cell) && !isNumber(cell)));
  if (found !== undefined) return [found];
  const isEmpty = names.every((name) => cells(name).length === 0);
  return likely.filter((name) => isEmpty || (cells(name).some(Boolean) && !stored.has(name))).slice(0, 1);
}

/** Return the column with the zone of each time, if all its cells are UTC or an offset. */
function zoneColumn(name: string | undefined, columns: ReadonlyMap<string, string[]>): string[] {
  const cells = name === undefined ? [] : (columns.get(name) ?? []);
  if (name === undefined || cells.length === 0 || !ZONE_NAMES.includes(plainName(name))) return [];
  return cells.every((cell) => /^(?:Z|(?:UTC|GMT)?(?:[+-][0-9]{1,2}(?::?[0-9]{2})?)?)$/i.test(cell)) ? [name] : [];
}

function plainName(name: string): string {
  return nameAndUnit(name)[0].toLowerCase().trim().split(", gmt")[0];
}

function share(cells: readonly string[], test: (cell: string) => boolean): number {
  const filled = cells.slice(0, MAX_EVIDENCE).filter(Boolean);
  return filled.length === 0 ? 0 : filled.filter(test).length / filled.length;
}

/** Return whether a cell is a date with a time of day, or a count. */
function isFullTime(cell: string): boolean {
  return isNumber(cell) || (cell.includes(":") && isMoment(cell)) || /^[0-9]{8}T[0-9]{4,6}/.test(cell);
}

function isMoment(cell: string): boolean {
  try {
    parseMoment(cell);
    return true;
  } catch (error) {
    return error instanceof TimeRefused && error.setting.startsWith("time_format = ");
  }
}

function isDateOnly(cell: string): boolean {
  return !cell.includes(":") && !isNumber(cell) && isMoment(cell);
}

function isTimeOfDay(cell: string): boolean {
  return /^[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]+)?)?\s*(?:[AaPp]\.?[Mm]\.?)?$/.test(cell);
}

/** Return whether a cell is a count since 1970 that is between the years 2001 and 2033, in one of its units. */
function isSince2001(cell: string): boolean {
  return /^1[0-9]{9}(?:\.[0-9]+|[0-9]{3}|[0-9]{6}|[0-9]{9})?$/.test(cell) || (isFullTime(cell) && cell.includes(":"));
}

function isNumber(cell: string): boolean {
  return /^[0-9]{1,19}(?:\.[0-9]+)?$/.test(cell);
}

/** Return the names that are wanted, in upper or lower case, the first wanted first. */
export function namedIn(names: readonly string[], wanted: readonly string[]): string[] {
  return wanted.flatMap((name) => names.find((known) => known.toLowerCase() === name) ?? []);
}

/** Return whether a line has names: no cell is a number or a time, and most are not empty. */
export function isHeader(cells: readonly string[]): boolean {
  const filled = cells.map(cleaned).filter(Boolean);
  for (const cell of filled) {
    const lowered = cell.toLowerCase();
    if ((NO_VALUE.has(lowered) || INFINITE.has(lowered)) && cell !== "-" && cell !== "--") return false;
    if (writtenNumber(cell) !== null || isMoment(cell) || isTimeOfDay(cell)) return false;
  }
  return filled.length > 0 && filled.length * 2 >= cells.length;
}

/** Return whether a line below the header has units: at least one known unit, no number, and data below it. */
export function isUnitsRow(cells: readonly string[], following: readonly string[]): boolean {
  const stripped = cells.map(bareUnit);
  if (isHeader(following) || stripped.some((cell) => cell !== "" && (writtenNumber(cell) !== null || isMoment(cell))))
    return false;
  return stripped.some(isKnownUnit) && stripped.every((cell) => cell.length <= MAX_UNIT);
}

/** Return a unit without the brackets around it. */
export function bareUnit(cell: string): string {
  return cell.replace(/^[ [\]()]+|[ [\]()]+$/g, "");
}

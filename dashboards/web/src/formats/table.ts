/** CSV and other tables of cells: a superset of RFC 4180. As table.py, without the tables of InfluxDB, TOA5 and HOBO. */

import {
  bareUnit,
  cellsOf,
  DEVICE_NAMES,
  delimiterOf,
  headerTexts,
  isHeader,
  isUnitsRow,
  METRIC_NAMES,
  mostCommon,
  nameAndUnit,
  namedIn,
  SEPARATOR_LINE,
  timeColumns,
  tryCells,
  UNIT_NAMES,
  uniqueNames,
  VALUE_NAMES,
} from "./columns";
import { decodeText, RecordJoiner } from "./framing";
import { DECORATION } from "./pairs";
import {
  type Entry,
  FrameRefused,
  type InputRecord,
  quoted,
  type RawValue,
  readEach,
  recordOf,
  type Schema,
  schemaOf,
  type TextFrame,
} from "./record";
import type { Rules } from "./rules";
import { unitSymbol } from "./units";
import { MAX_UNIT } from "./values";

/** Cells of one line; each becomes a metric, and a device has at most 1,024. */
const MAX_CELLS = 4096;

/** Meaning of the columns of a table; -1 for a column that it does not have. */
interface ColumnLayout {
  names: string[];
  /** Places of the time. */
  time: number[];
  /** Places of metric and value if each record contains one reading. */
  metric: number;
  value: number;
  unit: number;
  schema: Schema;
  /** Names and places of the other columns. */
  kept: [name: string, place: number][];
}

/** Reader of the lines of a table, in their order. `head` are its first lines, which decide what no rule says. */
export class TableReader {
  private readonly rules: Rules;
  private readonly delimiter: string;
  private readonly isUtf8: boolean;
  private readonly header: string[] = [];
  private readonly units: string[] = [];
  /** Lines before the data. */
  private readonly before: number;
  private readonly layout: ColumnLayout | null;
  private readonly joiner: RecordJoiner;
  private skipped = 0;

  constructor(rules: Rules, head: readonly TextFrame[]) {
    this.rules = rules;
    this.isUtf8 = rules.encoding === "utf-8" || rules.encoding === "utf8";
    const texts = head.flatMap(({ raw }) => decodeText(raw, true) || []);
    this.delimiter = rules.delimiter || delimiterOf(texts);
    const rows = texts.flatMap((text) => {
      const cells = tryCells(text, this.delimiter);
      return cells === null ? [] : [cells];
    });
    this.before = this.findHeader(rows);
    this.layout = this.plan(rows);
    this.joiner = new RecordJoiner(
      (raw) => this.isOpen(raw),
      (raw) => this.isRecord(raw),
    );
  }

  feed(frames: readonly TextFrame[]): Iterable<Entry> {
    return this.read(this.joiner.feed(frames));
  }

  /** Yield what waited for a closing quote. */
  finish(): Iterable<Entry> {
    return this.read(this.joiner.finish());
  }

  /** Expect no header: the next line is data. */
  skipHeader(): void {
    this.skipped = this.before;
  }

  private isOpen(raw: Uint8Array): boolean {
    try {
      cellsOf(decodeText(raw, true) ?? "", this.delimiter);
      return false;
    } catch (error) {
      return error instanceof FrameRefused && error.code === "quote";
    }
  }

  private isRecord(raw: Uint8Array): boolean {
    const text = decodeText(raw, true) ?? "";
    if (this.layout === null || text.split('"').length % 2 === 0) return false;
    return tryCells(text, this.delimiter)?.length === this.layout.names.length;
  }

  private read(frames: readonly TextFrame[]): Iterable<Entry> {
    return readEach(frames, (frame) => {
      const text = decodeText(frame.raw, !this.isUtf8);
      if (text === null)
        throw new FrameRefused("encoding", `the line is ${this.isUtf8 ? "not UTF-8" : "neither UTF-8 nor cp1252"}`);
      const cells = cellsOf(text, this.delimiter);
      if (cells.length > MAX_CELLS) throw new FrameRefused("limit", `the line has more than ${MAX_CELLS} cells`);
      const record = this.recordOf(frame, cells);
      return record === null ? [] : [record];
    });
  }

  private recordOf(frame: TextFrame, cells: string[]): InputRecord | null {
    const { layout } = this;
    if (layout === null)
      throw new FrameRefused("format", "the table has no readable line; set the delimiter", "delimiter");
    if (this.skipped < this.before) {
      // The lines before the data: preamble, header, units. They are counted without comments.
      if (!this.isComment(cells)) this.skipped++;
      return null;
    }
    if (!cells.some(Boolean) || this.isComment(cells) || isSame(cells, this.header)) return null;
    const width = layout.names.length;
    if (cells.length === 1 && width > 1 && DECORATION.test(cells[0])) return null;
    if (cells.length < width || cells.slice(width).some(Boolean))
      throw new FrameRefused("cells", `the line has ${cells.length} cells for ${width} columns`);
    const time = layout.time.length > 0 ? layout.time.map((place) => cells[place].trim()).join(" ") : null;
    if (layout.metric >= 0) return this.readingOf(frame, cells, layout, time);
    const values = new Map(layout.kept.map(([name, place]): [string, RawValue] => [name, cells[place]]));
    return recordOf(frame, values, layout.schema, { time });
  }

  /** Return the record of a line with one reading. */
  private readingOf(frame: TextFrame, cells: string[], layout: ColumnLayout, time: string | null): InputRecord {
    const [metric, value] = [cells[layout.metric].trim(), cells[layout.value].trim()];
    if (metric === "") throw new FrameRefused("metric", `the column ${quoted(layout.names[layout.metric])} is empty`);
    const unit = layout.unit < 0 ? "" : bareUnit(cells[layout.unit]);
    const units = unit === "" ? layout.schema.units : new Map([[metric, unitSymbol(unit).slice(0, MAX_UNIT)]]);
    const names = new Map(layout.kept.map(([name, place]) => [name, cells[place].trim()]));
    return recordOf(frame, new Map([[metric, value]]), { ...layout.schema, units }, { time, names });
  }

  /** Find the header and the units; return how many lines are before the data. */
  private findHeader(rows: string[][]): number {
    if (rows.length === 0) return 0;
    const isSeparator = SEPARATOR_LINE.test(rows[0].join(this.delimiter)) || SEPARATOR_LINE.test(rows[0][0]);
    const start = this.tableStart(rows, isSeparator ? 1 : 0);
    this.setHeader(this.commentedHeader(rows.slice(start)));
    const table = rows.slice(start).filter((row) => !this.isComment(row));
    // Comments are skipped wherever they are, so they do not count.
    const skipped = rows.slice(0, start).filter((row) => !this.isComment(row)).length;
    if (table.length === 0) return skipped;
    const hasHeader = this.rules.header ?? isHeader(table[0]);
    this.setHeader(hasHeader ? table[0] : []);
    if (!hasHeader) return skipped;
    if (table.length > 2 && isUnitsRow(table[1], table[2])) {
      this.units.push(...table[1]);
      return skipped + 2;
    }
    return skipped + 1;
  }

  private setHeader(cells: readonly string[]): void {
    this.header.splice(0, this.header.length, ...cells);
  }

  /**
   * Return the lines before the table: those before a header that begins the last lines of one width, else those with
   * fewer cells than most lines.
   */
  private tableStart(rows: string[][], first: number): number {
    const last = rows[rows.length - 1].length;
    let start = rows.length;
    while (start > first && rows[start - 1].length === last) start--;
    const table = rows.slice(start);
    if (last > 1 && table.length > 1 && isHeader(table[0]) && !isHeader(table[1])) return start;
    const [width] = mostCommon(rows.map((row) => row.length));
    let before = first;
    while (before < rows.length - 1 && rows[before].length < width && !this.isComment(rows[before])) before++;
    return before;
  }

  /** Return whether a line is a comment; the header may begin with #, too. */
  private isComment(cells: readonly string[]): boolean {
    if (!cells[0].startsWith("#") || cells[0].trim() === "#") return false;
    return !isSame(cells, this.header);
  }

  /** Return the header that begins with #: the last such line before the data, with as many cells, and names. */
  private commentedHeader(rows: string[][]): string[] {
    const data = rows.find((row) => !this.isComment(row));
    if (data === undefined || isHeader(data)) return [];
    const fits = (row: string[]) =>
      this.isComment(row) && row.length === data.length && row.length > 1 && isHeader(row);
    return rows.findLast(fits) ?? [];
  }

  private plan(rows: string[][]): ColumnLayout | null {
    const data = rows.filter((row) => !this.isComment(row)).slice(this.before);
    const width = this.header.length || Math.max(0, ...data.map((row) => row.length));
    if (width === 0) return null;
    const headers = headerTexts(this.header.length > 0 ? this.header : Array<string>(width).fill(""));
    const names = uniqueNames(headers);
    const full = data.filter((row) => row.length >= width);
    const columns = new Map(names.map((name, place) => [name, full.map((row) => row[place].trim())]));
    const time = this.timeOf(columns);
    const [metric, value] = this.longOf(names);
    const unit = metric < 0 ? -1 : names.indexOf(namedIn(names, UNIT_NAMES)[0]);
    const timeNames = time.map((place) => names[place]);
    const identity = namedIn(names, DEVICE_NAMES).filter((name) => !timeNames.includes(name));
    const schema = schemaOf({ ...this.namedUnits(names, headers), words: true, identity: identity.slice(0, 1) });
    const places = names.map((name, place): [string, number] => [name, place]);
    const kept = places.filter(([, place]) => ![...time, metric, value].includes(place));
    return { names, time, metric, value, unit, schema, kept };
  }

  /** Return the metric and the unit of each column whose header or units row has one. */
  private namedUnits(names: string[], headers: string[]): Pick<Schema, "metrics" | "units"> {
    const metrics = new Map<string, string>();
    const units = new Map<string, string>();
    names.forEach((name, place) => {
      const [inHeader, written] = nameAndUnit(headers[place]);
      const metric = name === headers[place] ? inHeader : name;
      const below = bareUnit(this.units[place] ?? "");
      const unit = written || (below === "" || below === "-" ? "" : unitSymbol(below).slice(0, MAX_UNIT));
      if (metric !== name && ![...metrics.values(), ...names].includes(metric)) metrics.set(name, metric);
      if (unit !== "") units.set(name, unit);
    });
    return { metrics, units };
  }

  private timeOf(columns: ReadonlyMap<string, string[]>): number[] {
    const names = [...columns.keys()];
    const wanted =
      this.rules.time.length > 0 ? this.rules.time : timeColumns(columns, new Set(this.rules.columns.keys()));
    return wanted.map((name) => names.indexOf(name)).filter((place) => place >= 0);
  }

  private longOf(names: string[]): [metric: number, value: number] {
    const { rules } = this;
    let [metric, value]: (string | undefined)[] = [rules.metric_column, rules.value_column];
    if (metric === "" && rules.columns.size === 0)
      [metric, value] = [namedIn(names, METRIC_NAMES)[0], namedIn(names, VALUE_NAMES)[0]];
    const places: [number, number] = [names.indexOf(metric ?? ""), names.indexOf(value ?? "")];
    return places.includes(-1) ? [-1, -1] : places;
  }
}

function isSame(cells: readonly string[], header: readonly string[]): boolean {
  return header.length > 0 && cells.length === header.length && cells.every((cell, place) => cell === header[place]);
}

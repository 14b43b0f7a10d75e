/**
 * NMEA 0183 sentences of GPS receivers, compasses and weather stations. As nmea.py. A sentence whose checksum is wrong is
 * refused; one field that is wrong costs itself. GGA, GLL and others get the date of the last RMC or ZDA.
 */

import { decodeText } from "./framing";
import {
  type Entry,
  FrameRefused,
  type MetricType,
  readEach,
  recordOf,
  type Schema,
  schemaOf,
  type TextFrame,
} from "./record";

/** Characters of a sentence. The standard has 82, and many receivers send longer ones. */
const MAX_SENTENCE = 256;

const SENTENCE = /^[$!]([A-Z]{2}|P)([A-Z0-9]{3,5}),([^*]*)(?:\*([0-9A-Fa-f]{2}))?$/;
/** A sentence behind up to 64 other characters, such as the time that a logger writes. */
const PREFIXED = /^[^$!]{1,64}([$!](?:[A-Z]{2}|P)[A-Z0-9]{3,5},[^*$!]*\*[0-9A-Fa-f]{2})$/u;
const TIME = /^([0-9]{2})([0-9]{2})([0-9]{2}(?:\.[0-9]{1,9})?)$/;
const DEGREES = /^([0-9]{1,3})([0-9]{2}(?:\.[0-9]+)?)$/;
const DATE = /^([0-9]{2})([0-9]{2})([0-9]{2})$/;

/** A field that cannot be read; interpretation refuses its text alone. */
class FieldError extends Error {}

/** A value of a sentence: its metric, the place of its field, its unit, and the place of a field that goes with it. */
interface Part {
  metric: string;
  place: number;
  unit: string;
  beside?: number;
  read: (value: string, beside: string) => string;
}

const part = (metric: string, place: number, unit = ""): Part => ({ metric, place, unit, read: (value) => value });

/** Return degrees for ddmm.mmmm with N, S, E or W. */
function position(value: string, side: string): string {
  const found = DEGREES.exec(value);
  if (found === null || !/^[NSEW]$/.test(side) || Number(found[2]) >= 60) throw new FieldError();
  const degrees = Number(found[1]) + Number(found[2]) / 60;
  if (degrees > (side === "N" || side === "S" ? 90 : 180)) throw new FieldError();
  return `${side === "S" || side === "W" ? "-" : ""}${degrees.toFixed(8)}`;
}

function signed(value: string, side: string): string {
  return (side === "W" || side === "L") && value !== "" ? `-${value}` : value;
}

const SPEED_UNITS: Record<string, string> = { N: "kn", M: "m/s", K: "km/h", S: "mph" };

/** Return a wind speed with its unit behind it; the sentence names the unit N, M, K or S. */
function withUnit(value: string, unit: string): string {
  if (!(unit in SPEED_UNITS)) throw new FieldError();
  return `${value} ${SPEED_UNITS[unit]}`;
}

const positionParts = (first: number): Part[] => [
  { metric: "latitude", place: first, unit: "°", beside: first + 1, read: position },
  { metric: "longitude", place: first + 2, unit: "°", beside: first + 3, read: position },
];

const PARTS: Record<string, Part[]> = {
  GGA: [
    ...positionParts(1),
    part("fix_quality", 5),
    part("satellites", 6),
    part("hdop", 7),
    part("altitude", 8, "m"),
    part("geoid_separation", 10, "m"),
  ],
  RMC: [
    ...positionParts(2),
    part("speed", 6, "kn"),
    part("course", 7, "°"),
    { ...part("magnetic_variation", 9, "°"), beside: 10, read: signed },
  ],
  VTG: [part("course", 0, "°"), part("course_magnetic", 2, "°"), part("speed", 4, "kn"), part("speed_kmh", 6, "km/h")],
  GLL: positionParts(0),
  GSA: [part("fix_type", 1), part("pdop", 14), part("hdop", 15), part("vdop", 16)],
  GST: [part("latitude_error", 5, "m"), part("longitude_error", 6, "m"), part("altitude_error", 7, "m")],
  HDT: [part("heading", 0, "°")],
  HDG: [part("heading_magnetic", 0, "°")],
  HDM: [part("heading_magnetic", 0, "°")],
  DPT: [part("depth", 0, "m"), part("depth_offset", 1, "m")],
  DBT: [part("depth", 2, "m")],
  MTW: [part("water_temperature", 0, "°C")],
  VHW: [part("heading", 0, "°"), part("heading_magnetic", 2, "°"), part("speed_water", 4, "kn")],
  ZDA: [],
};
/** Talkers of GSV: each constellation has its own. */
const TALKERS = ["GP", "GL", "GA", "GB", "BD", "GQ", "GI", "GN"];
const TIME_PLACE: Record<string, number> = { GGA: 0, RMC: 0, GLL: 4, GST: 0, ZDA: 0 };

/** Reader of sentences; it remembers the date for sentences that have only a time of day. */
export class NmeaReader {
  private date = "";
  private readonly schemas = new Map<string, Schema>();

  feed(frames: readonly TextFrame[]): Iterable<Entry> {
    return readEach(frames, (frame) => this.read(frame));
  }

  finish(): Entry[] {
    return [];
  }

  private read(frame: TextFrame): Entry[] {
    const [talker, kind, fields] = parseSentence(frame);
    const time = this.timeOf(kind, fields);
    let values = valuesOf(talker, kind, fields);
    if (hasNoFix(kind, fields)) values = values.filter(([name]) => name === "fix_quality" || name === "satellites");
    return values.length === 0 ? [] : [recordOf(frame, new Map(values), this.schemaOf(kind), { time })];
  }

  private schemaOf(kind: string): Schema {
    let schema = this.schemas.get(kind);
    if (schema === undefined) {
      const parts = PARTS[kind] ?? [];
      const units = new Map(parts.filter(({ unit }) => unit !== "").map(({ metric, unit }) => [metric, unit]));
      for (const name of ["wind_angle", "wind_angle_true"]) units.set(name, "°");
      const names = [
        ...units.keys(),
        ...["wind_speed", "wind_speed_true"],
        ...parts.map(({ metric }) => metric),
        ...TALKERS.map((talker) => `satellites_in_view.${talker}`),
      ];
      const types = new Map(names.map((name): [string, MetricType] => [name, "float"]));
      schema = schemaOf({ units, types, words: true });
      this.schemas.set(kind, schema);
    }
    return schema;
  }

  /** Return the time of a sentence in ISO 8601, null if the sentence or the date before it has none. */
  private timeOf(kind: string, fields: readonly string[]): string | null {
    const date = kind === "RMC" ? DATE.exec(fields[8] ?? "") : null;
    if (date !== null) {
      const year = Number(date[3]);
      this.date = `${year + (year >= 80 ? 1900 : 2000)}-${date[2]}-${date[1]}`;
    }
    if (kind === "ZDA" && [1, 2, 3].every((place) => /^[0-9]+$/.test(fields[place] ?? "")))
      this.date = `${fields[3].padStart(4, "0")}-${fields[2].padStart(2, "0")}-${fields[1].padStart(2, "0")}`;
    const found = TIME.exec(fields[TIME_PLACE[kind] ?? -1] ?? "");
    return found === null || this.date === "" ? null : `${this.date}T${found[1]}:${found[2]}:${found[3]}Z`;
  }
}

function valuesOf(talker: string, kind: string, fields: readonly string[]): [string, string][] {
  if (kind === "GSV") return fields[1] === "1" ? [[`satellites_in_view.${talker}`, fields[2] ?? ""]] : [];
  if (kind === "MWV") return wind(fields);
  const parts = PARTS[kind];
  if (parts === undefined)
    throw new FrameRefused("format", `the sentence ${kind} is not supported; readings of it are not stored`);
  return parts.map((value) => [value.metric, readPart(value, fields)]);
}

function hasNoFix(kind: string, fields: readonly string[]): boolean {
  return (
    (kind === "RMC" && fields[1] !== "A") ||
    (kind === "GLL" && fields[5] === "V") ||
    (kind === "GGA" && ["", "0"].includes(fields[5] ?? ""))
  );
}

/** Return whether a line is a sentence, or ends with one that has a checksum. */
export function looksLikeNmea(text: string): boolean {
  return SENTENCE.test(sentenceIn(text));
}

/** Return the sentence of a line. Only one with a checksum can have other text before it. */
function sentenceIn(text: string): string {
  return PREFIXED.exec(text)?.[1] ?? text;
}

function parseSentence(frame: TextFrame): [talker: string, kind: string, fields: string[]] {
  const text = sentenceIn((decodeText(frame.raw) ?? "").trim());
  const found = text.length <= MAX_SENTENCE ? SENTENCE.exec(text) : null;
  if (found === null) throw new FrameRefused("syntax", "the line is not an NMEA sentence such as $GPGGA,…*hh");
  if (found[4] !== undefined) {
    const expected = checksum(text.slice(1, text.indexOf("*")));
    if (expected !== Number.parseInt(found[4], 16)) {
      const has = expected.toString(16).toUpperCase().padStart(2, "0");
      throw new FrameRefused("checksum", `the checksum is ${found[4].toUpperCase()}, the sentence has ${has}`);
    }
  }
  return [found[1], found[2], found[3].split(",")];
}

/** Return the exclusive or of all bytes between $ and *. */
function checksum(text: string): number {
  return new TextEncoder().encode(text).reduce((sum, byte) => sum ^ byte, 0);
}

/** Return the values of MWV: the angle and the speed of the relative or the true wind. */
function wind(fields: readonly string[]): [string, string][] {
  if (fields[4] !== "A") return [];
  const suffix = fields[1] === "T" ? "_true" : "";
  const speed = readPart({ metric: "wind_speed", place: 2, unit: "", beside: 3, read: withUnit }, fields);
  return [
    [`wind_angle${suffix}`, fields[0]],
    [`wind_speed${suffix}`, speed],
  ];
}

function readPart({ place, beside, read }: Part, fields: readonly string[]): string {
  const value = fields[place] ?? "";
  if (value === "") return "";
  const other = beside === undefined ? "" : (fields[beside] ?? "");
  try {
    return read(value, other);
  } catch (error) {
    if (!(error instanceof FieldError)) throw error;
    // Interpretation refuses the text alone, with its reason.
    return other === "" ? value : `${value},${other}`;
  }
}

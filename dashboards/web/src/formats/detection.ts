/** Detection of the text format from the first frames of an input. As detection.py, with the same reasons. */

import { JsonObject, type JsonValue } from "../wire/exact_json";
import { delimiterOf, isOneColumn, mostCommon, programOf, tryCells } from "./columns";
import { decodeText } from "./framing";
import { documents, isSenml } from "./json_text";
import { looksLikeLine } from "./line_protocol";
import { looksLikeNmea } from "./nmea";
import { parsePairs } from "./pairs";
import { FrameRefused, type TextFrame } from "./record";
import type { ReadFormat } from "./rules";
import { cleaned, INFINITE, NO_VALUE, TRUTHS, writtenNumber } from "./values";

/** Frames that detection looks at: more do not change the choice. */
const MAX_SAMPLE = 50;
const OPENING = /^[{[]\s*(?:$|["{[]|-?[0-9.]+\s*(?:,|$))/;
const ONE_COMMA = /^[+-]?[0-9]+,[0-9]+$/;
const EXPORT_HEADER = "time,time_ns,device,metric,unit,value";

/**
 * A detected format and the reason in a sentence. `unread` is the name of a format that the browser does not read, "" for
 * others. `isDocument`: one JSON value spans the lines.
 */
export interface Detection {
  format: ReadFormat;
  reason: string;
  unread: string;
  isDocument: boolean;
}

const found = (format: ReadFormat, reason: string, rest: Partial<Detection> = {}): Detection => ({
  format,
  reason,
  unread: "",
  isDocument: false,
  ...rest,
});

/** Return the format of these first frames; null if they have none that is known. */
export function detect(frames: readonly TextFrame[]): Detection | null {
  const texts = frames
    .slice(0, MAX_SAMPLE)
    .map(({ raw }) => (decodeText(raw, true) ?? "").trim())
    .filter(Boolean);
  if (texts.length === 0) return null;
  if (texts[0] === EXPORT_HEADER)
    return found("csv", "the first line is that of an export of a hub", { unread: "an export of a hub" });
  const comments = texts.filter((text) => !text.startsWith("#"));
  const lines = comments.length > 0 ? comments : texts;
  const json = /^[{[]/.test(lines[0]) ? detectJson(lines, frames) : null;
  if (json !== null) return json;
  const program = programOf(texts, delimiterOf(texts));
  if (program !== "") return found("csv", `the first line is that of ${program}`, { unread: program });
  const tests: [ReadFormat, string, (text: string) => boolean][] = [
    ["nmea", "sentences of NMEA 0183", looksLikeNmea],
    ["line", "line protocol", looksLikeLine],
    ["pairs", "pairs of a name and a value", isPairs],
  ];
  for (const [format, words, test] of tests) {
    const count = lines.filter(test).length;
    if (count * 2 > lines.length) return found(format, `${count} of ${lines.length} lines are ${words}`);
  }
  return detectTable(texts, lines);
}

function detectJson(lines: string[], frames: readonly TextFrame[]): Detection | null {
  const opens = OPENING.test(lines[0]) && isOpening(lines[0]);
  if (opens) {
    const whole = contentsOf(frames.map(({ raw }) => decodeText(raw, true) ?? "").join("\n"));
    if (whole !== null && whole.length > 0)
      return jsonKind(whole, (words) => `the first line opens a value that spans lines: ${words}`, true);
  }
  const contents = lines.map(contentsOf);
  const read = contents.filter((content) => content !== null);
  if (read.flat().length > 0 && read.length * 2 > lines.length)
    return jsonKind(read.flat(), (words) => `${read.length} of ${lines.length} lines are ${words}`);
  if (contents[0] === null && opens)
    return found("json", "the first line opens a value that spans lines: JSON", { isDocument: true });
  return null;
}

function contentsOf(text: string): JsonValue[] | null {
  try {
    return documents(new TextEncoder().encode(text));
  } catch (error) {
    if (error instanceof FrameRefused) return null;
    throw error;
  }
}

/** Return the format that all these values have. */
function jsonKind(contents: JsonValue[], reason: (words: string) => string, isDocument = false): Detection {
  if (contents.every(isSenml)) return found("senml", reason("packs of SenML"), { isDocument });
  if (contents.every((content) => isDelta(content) || isHello(content)) && contents.some(isDelta))
    return found("json", reason("deltas of Signal K"), { unread: "Signal K" });
  if (contents.every(isRtl433)) return found("json", reason("messages of rtl_433"), { unread: "rtl_433" });
  if (contents.every(isGpsd)) return found("json", reason("reports of gpsd"), { unread: "gpsd" });
  return found("json", reason("JSON"), { isDocument });
}

/** Return whether JSON is a delta of Signal K: an object with a list of updates that have values or metadata by paths. */
function isDelta(content: JsonValue): boolean {
  const updates = content instanceof JsonObject ? content.members.get("updates") : undefined;
  if (!Array.isArray(updates) || updates.length === 0) return false;
  return updates.every((update) => {
    if (!(update instanceof JsonObject)) return false;
    const items = ["values", "meta"].map((key) => update.members.get(key) ?? null).filter((item) => item !== null);
    return items.length > 0 && items.every((item) => Array.isArray(item) && item.every(hasPath));
  });
}

function hasPath(item: JsonValue): boolean {
  return item instanceof JsonObject && typeof item.members.get("path") === "string" && item.members.has("value");
}

/** Return whether JSON is the first message of a stream of Signal K. */
function isHello(content: JsonValue): boolean {
  const names = content instanceof JsonObject ? content.members : new Map();
  return names.has("version") && names.has("self") && !names.has("updates");
}

const GPSD_CLASSES = "TPV SKY GST ATT IMU TOFF PPS OSC VERSION DEVICES DEVICE WATCH POLL ERROR".split(" ");

/** Return whether JSON is a report of gpsd. */
function isGpsd(content: JsonValue): boolean {
  const name = content instanceof JsonObject ? content.members.get("class") : undefined;
  return typeof name === "string" && GPSD_CLASSES.includes(name);
}

const BLUETOOTH_ADDRESS = /^(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}$/;
const BLUETOOTH_MARKS = ["servicedata", "manufacturerdata", "model_id", "mac_type", "tempc"];
const RTL_433_MARKS = ["mic", "battery_ok", "mod"];
/** Ends of the names of rtl_433, which are units. */
const RTL_433_UNITS =
  /^.+?_(?:km_h|mi_h|m_s|mm_h|in_h|ug_m3|inHg|C|F|hPa|kPa|PSI|psi|mm|cm|m|km|in|m3|ft3|deg|V|mV|A|mA|W|kW|VA|Wh|kWh|Hz|MHz|dB|lux|ppm|ppb|pct|s|ms|kg)$/;

/** Return whether JSON is a message of a radio sensor, as rtl_433 and OpenMQTTGateway write it. */
function isRtl433(content: JsonValue): boolean {
  if (!(content instanceof JsonObject)) return false;
  const { members } = content;
  const id = members.get("id");
  if (typeof id === "string" && members.has("rssi") && BLUETOOTH_ADDRESS.test(id))
    return BLUETOOTH_MARKS.some((name) => members.has(name));
  const isName = (value: JsonValue | undefined) => ["string", "number", "bigint", "boolean"].includes(typeof value);
  if (typeof members.get("model") !== "string" || ![id, members.get("channel")].some(isName)) return false;
  if (RTL_433_MARKS.some((name) => members.has(name))) return true;
  return [...members].some(
    ([name, value]) => ["number", "bigint", "boolean"].includes(typeof value) && RTL_433_UNITS.test(name),
  );
}

function isOpening(text: string): boolean {
  return (text.match(/[{[]/g) ?? []).length > (text.match(/[}\]]/g) ?? []).length;
}

function isPairs(text: string): boolean {
  try {
    return parsePairs(text).length > 0;
  } catch (error) {
    if (error instanceof FrameRefused) return false;
    throw error;
  }
}

const DELIMITER_NAMES: Record<string, string> = { "\t": "tabs", ",": "commas", ";": "semicolons", "|": "bars" };

function detectTable(texts: string[], lines: string[]): Detection | null {
  if (isOneColumn(texts)) {
    const reason = "one name is above lines with one number each";
    return found("csv", `${reason}; if each line is several numbers, set delimiter = ","`);
  }
  const delimiter = delimiterOf(texts);
  const widths = lines.flatMap((text) => tryCells(text, delimiter)?.length ?? []);
  const [width, often] = mostCommon(widths);
  if (width > 1) {
    const name = DELIMITER_NAMES[delimiter] ?? `'${delimiter}'`;
    const reason = `${often} of ${lines.length} lines have ${width} cells between ${name}`;
    const areCommas = lines.every((text) => ONE_COMMA.test(text));
    const hint = areCommas ? '; if each line is one number with a decimal comma, set format = "value"' : "";
    return found("csv", reason + hint);
  }
  const isPlotter = (text: string) => {
    const parts = text.split(/\s+/);
    return parts.length > 1 && parts.every(isNumber);
  };
  if (lines.filter(isPlotter).length * 2 > lines.length)
    return found("plotter", "the lines are numbers between spaces");
  if (lines.filter(isBare).length * 2 > lines.length) return found("value", "each line is a bare value");
  return null;
}

function isNumber(text: string): boolean {
  return writtenNumber(cleaned(text)) !== null;
}

function isBare(text: string): boolean {
  const lowered = cleaned(text).toLowerCase();
  return isNumber(text) || TRUTHS.has(lowered) || NO_VALUE.has(lowered) || INFINITE.has(lowered);
}

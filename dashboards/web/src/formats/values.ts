/**
 * Values in texts: words for no value, numbers as people and programs write them, units behind them, booleans. As
 * values.py: one `Column` collects the evidence about one field and converts its values by it.
 */

import { quoted, ValueRefused } from "./record";
import { UNITS, unitSymbol } from "./units";

const words = (text: string) => new Set(text.split(" "));

/** Words without a value, in lower case. Such a value is not a reading, and it never determines a type. */
export const NO_VALUE: ReadonlySet<string> = new Set([
  "",
  ...words(
    "nan -nan +nan null nil none n/a na #n/a #num! #value! #div/0! #ref! unknown unavailable undefined - -- --- ?",
  ),
]);
/** Words without a value, unless the metric is text. */
export const INFINITE: ReadonlySet<string> = words(
  "inf -inf +inf infinity -infinity +infinity 1.#inf -1.#inf 1.#qnan -1.#ind",
);
export const TRUTHS: ReadonlyMap<string, boolean> = new Map([
  ...["true", "on", "yes", "open"].map((word) => [word, true] as const),
  ...["false", "off", "no", "closed"].map((word) => [word, false] as const),
]);
/** Words of a metric that is declared boolean. */
const DECLARED_TRUTHS = new Map([
  ...TRUTHS,
  ...["1", "t", "y"].map((word) => [word, true] as const),
  ...["0", "f", "n"].map((word) => [word, false] as const),
]);

/** Match of a number in the notation of programs. */
export const PLAIN = /^[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?$/;
const STRIPPED = /^[ \t\r\n\f\v\0\ufeff\u00a0\u2007\u2009\u202f]+|[ \t\r\n\f\v\0\ufeff\u00a0\u2007\u2009\u202f]+$/g;
const PARTS = /^([+-]?)([0-9][0-9.,' ]*|[.,][0-9]+)([eE][+-]?[0-9]{1,3})?[ ]*([^0-9].*)?$/;
const NAME = /^[0-9]+(?:[eE][0-9]+|(?:\.[0-9]+){2,})$/;
const AMBIGUOUS = /^[1-9][0-9]{0,2}[.,][0-9]{3}$/;
const GROUPS: Record<string, RegExp> = {
  ".": /^[0-9]{1,3}(?:\.[0-9]{3})+$/,
  ",": /^[0-9]{1,3}(?:,[0-9]{3})+$/,
  "'": /^[0-9]{1,3}(?:'[0-9]{3})+$/,
  " ": /^[0-9]{1,3}(?: [0-9]{3})+$/,
};
const DIGITS = /^[0-9]+$/;
/** A float64 keeps this many digits. A longer number without a fraction is an identifier. */
const PRECISE_DIGITS = 15;
/** A float keeps every whole number below this, and not all above it. */
export const EXACT = 2 ** 53;
/** Characters of a number with its unit; longer texts are texts. */
const MAX_NUMBER = 64;
export const MAX_UNIT = 32;
const [MIN_INTEGER, MAX_INTEGER] = [-(2n ** 63n), 2n ** 63n - 1n];

/** A number as it is written. `decimal` and `thousands` are certain; `unclear` is a mark that can be either. */
export interface WrittenNumber {
  sign: string;
  body: string;
  exponent: string;
  unit: string;
  decimal: string;
  thousands: string;
  unclear: string;
}

/** Return a text without surrounding white space, NULs, quotes, and the apostrophe of spreadsheets. */
export function cleaned(raw: string): string {
  let text = raw.replace(STRIPPED, "");
  if (text.length > 1 && text[0] === text.at(-1) && "\"'".includes(text[0]))
    text = text.slice(1, -1).replace(STRIPPED, "");
  return /^'(?:[-+.,0-9]|$)/.test(text) ? text.slice(1) : text;
}

/** Return the parts of a number with an optional unit; null if the text is not one. */
export function writtenNumber(text: string): WrittenNumber | null {
  if (text.length > MAX_NUMBER) return null;
  const plain = text
    .replace(/[\u00a0\u2007\u2009\u202f]/g, " ")
    .replaceAll("’", "'")
    .replaceAll("−", "-");
  const found = PARTS.exec(plain);
  if (found === null) return null;
  const body = found[2].replace(/ +$/, "");
  const unit = unitSymbol((found[4] ?? "").replace(/ +$/, ""));
  if (unit !== "" && (unit.length > MAX_UNIT || !isUnit(unit))) return null;
  const number = { sign: found[1], body, exponent: found[3] ?? "", unit, decimal: "", thousands: "", unclear: "" };
  const group = body.includes(" ") ? " " : body.includes("'") ? "'" : "";
  if (group !== "") {
    const mark = body.includes(".") ? "." : body.includes(",") ? "," : "";
    const at = mark === "" ? body.length : body.indexOf(mark);
    if (!GROUPS[group].test(body.slice(0, at)) || !DIGITS.test(`${body.slice(at + 1)}0`)) return null;
    return { ...number, decimal: mark, thousands: group };
  }
  const [dots, commas] = [body.split(".").length - 1, body.split(",").length - 1];
  if (dots === 0 && commas === 0) return number;
  if (dots > 0 && commas > 0) {
    const [decimal, thousands] = body.lastIndexOf(".") > body.lastIndexOf(",") ? [".", ","] : [",", "."];
    const at = body.lastIndexOf(decimal);
    const [whole, fraction] = [body.slice(0, at), body.slice(at + 1)];
    const isNumber = !whole.includes(decimal) && GROUPS[thousands].test(whole) && !fraction.includes(thousands);
    return isNumber ? { ...number, decimal, thousands } : null;
  }
  const mark = dots > 0 ? "." : ",";
  if (dots + commas > 1) return GROUPS[mark].test(body) ? { ...number, thousands: mark } : null;
  if (AMBIGUOUS.test(body) && number.exponent === "") return { ...number, unclear: mark };
  return { ...number, decimal: mark };
}

function isUnit(text: string): boolean {
  return UNITS.has(text) || !/\p{Nd}|[¹⁰⁴-⁹₀-₉]/u.test(text);
}

function isIdentifier(text: string): boolean {
  const digits = withoutSign(text);
  return DIGITS.test(digits) && (digits.length > PRECISE_DIGITS || (digits.length > 1 && digits[0] === "0"));
}

function withoutSign(text: string): string {
  return text.replace(/^[+-]+/, "");
}

function isAmbiguous(text: string): boolean {
  return AMBIGUOUS.test(withoutSign(text));
}

/** Counter of texts that remembers their order. */
class Counter extends Map<string, number> {
  add(text: string, times = 1): void {
    if (text !== "") this.set(text, (this.get(text) ?? 0) + times);
  }

  /** Return the most frequent text, the first of several; "" without any. */
  mostCommon(): string {
    let best = "";
    for (const [text, count] of this) if (count > (this.get(best) ?? 0)) best = text;
    return best;
  }
}

interface ColumnRules {
  decimal: string;
  thousands: string;
  /** A word such as "on" is a boolean, and a number can have leading zeros: the format has no types. */
  words: boolean;
  kind: "number" | "boolean" | "text" | null;
  unit: string;
  noValue: ReadonlySet<string>;
}

/** The decisions about one field: its kind, its number marks and its unit. Evidence sets what no rule sets. */
export class Column {
  decimal: string;
  thousands: string;
  kind: ColumnRules["kind"];
  unit: string;
  readonly noValue: ReadonlySet<string>;
  private readonly words: boolean;
  private readonly isFixed: boolean;
  private isUnclear = false;

  constructor(rules: ColumnRules) {
    this.decimal = rules.decimal;
    this.thousands = rules.thousands;
    this.words = rules.words;
    this.kind = rules.kind;
    this.unit = rules.unit;
    this.noValue = rules.noValue;
    this.isFixed = rules.decimal !== "" || rules.thousands !== "";
  }

  /** Decide from these values what is not decided yet. */
  learn(texts: readonly string[]): void {
    const written: WrittenNumber[] = [];
    const decimals = new Counter();
    const counts = { truths: 0, plain: 0, others: 0 };
    for (const raw of texts) {
      const text = cleaned(raw);
      const lowered = text.toLowerCase();
      if (this.noValue.has(lowered) || INFINITE.has(lowered)) continue;
      if (this.words && TRUTHS.has(lowered)) counts.truths++;
      else if (this.isText(text)) counts.others++;
      else if (PLAIN.test(text) && !isAmbiguous(text)) {
        counts.plain++;
        decimals.add(".", text.includes(".") ? 1 : 0);
      } else {
        const number = writtenNumber(text);
        if (number === null) counts.others++;
        else {
          written.push(number);
          decimals.add(number.decimal);
        }
      }
    }
    this.learnMarks(written, decimals);
    this.learnUnit(written, counts.plain);
    const fitting = written.filter(({ unit }) => unit === "" || unit === this.unit).length;
    this.learnKind(counts.plain + fitting, counts.truths, counts.others + written.length - fitting);
  }

  private learnKind(numbers: number, truths: number, others: number): void {
    if (this.kind !== null || numbers + truths + others === 0) return;
    if (truths > 0 && others === 0) this.kind = truths >= numbers ? "boolean" : "number";
    else this.kind = numbers >= others && numbers > 0 ? "number" : "text";
  }

  private learnMarks(written: readonly WrittenNumber[], decimals: Counter): void {
    this.isUnclear = written.some(({ unclear }) => unclear !== "");
    if (this.isFixed) return;
    const groups = new Counter();
    for (const number of written) groups.add(number.thousands);
    this.decimal ||= decimals.mostCommon();
    this.thousands ||= groups.mostCommon();
    if (this.decimal === "" && this.thousands === ".") this.decimal = ",";
    if (this.decimal === "" && this.thousands === ",") this.decimal = ".";
  }

  private learnUnit(written: readonly WrittenNumber[], plain: number): void {
    const units = new Counter();
    for (const number of written) units.add(number.unit);
    const unit = units.mostCommon();
    if (unit === "" || this.unit !== "") return;
    const often = units.get(unit) ?? 0;
    if (UNITS.has(unit) || (often > 1 && often === written.length + plain)) this.unit = unit;
  }

  /** Use the decimal mark of the whole input if no value here has a certain one. */
  adopt(decimal: string): void {
    if (!this.isFixed && this.decimal === "" && (decimal === "." || this.isUnclear)) this.decimal = decimal;
  }

  private isText(text: string): boolean {
    if (isIdentifier(text)) return !this.words || withoutSign(text).length > PRECISE_DIGITS;
    // An identifier such as 7E10 in a text of JSON is no power of ten, and an address no number with thousands.
    return !this.words && NAME.test(text);
  }

  /** Return the number in a cleaned text, null if it is not a number. Throws ValueRefused. */
  number(text: string): number | null {
    if (this.decimal !== "," && PLAIN.test(text)) {
      const value = finite(text, text);
      if (this.decimal === "" && text.includes(".") && !isAmbiguous(text)) this.keep(".", "");
      return value;
    }
    const written = writtenNumber(text);
    if (written === null) return null;
    if (written.unit !== "" && !this.admits(written.unit)) {
      if (UNITS.has(written.unit) && this.unit !== "")
        throw new ValueRefused("unit", `the unit of ${quoted(text)} is not ${this.unit}, which earlier values have`);
      return null;
    }
    return finite(written.sign + this.plain(text, written) + written.exponent, text);
  }

  private admits(unit: string): boolean {
    if (this.unit === "" && UNITS.has(unit)) this.unit = unit;
    return unit === this.unit;
  }

  /** Return the digits in the notation of programs. Throws ValueRefused for marks against the evidence. */
  private plain(text: string, written: WrittenNumber): string {
    let { body, decimal, thousands } = written;
    if (written.unclear !== "") {
      decimal = this.meaningOf(text, written.unclear);
      thousands = decimal === "" ? written.unclear : "";
    } else {
      if (decimal !== "" && (decimal === this.thousands || (this.decimal !== "" && decimal !== this.decimal)))
        throw new ValueRefused(
          "number",
          `${quoted(text)} has the decimal mark ${quoted(decimal)}, against the other values`,
          `decimal = "${decimal}"`,
        );
      if (thousands !== "" && thousands === this.decimal)
        throw new ValueRefused(
          "number",
          `${quoted(text)} has ${quoted(thousands)} between thousands, other values have it as the decimal mark`,
          `thousands = "${thousands}"`,
        );
      this.keep(decimal, thousands);
    }
    if (thousands !== "") body = body.replaceAll(thousands, "");
    return decimal === "" ? body : body.replaceAll(decimal, ".");
  }

  /** Remember marks whose meaning is certain, as evidence for the next values. */
  private keep(decimal: string, thousands: string): void {
    if (this.isFixed) return;
    this.decimal ||= decimal;
    this.thousands ||= thousands;
  }

  /** Return the mark if it is the decimal mark, "" if it separates thousands. Throws ValueRefused. */
  private meaningOf(text: string, mark: string): string {
    if (this.decimal !== "") return mark === this.decimal ? mark : "";
    if (this.thousands === mark) return "";
    if (mark === ".") return mark;
    throw new ValueRefused(
      "ambiguous",
      `${quoted(text)} can be a decimal comma or thousands, and no other value decides: say \`decimal\` or \`thousands\``,
      'decimal = "," or thousands = ","',
    );
  }
}

function finite(digits: string, text: string): number {
  const value = Number(digits);
  if (!Number.isFinite(value)) throw new ValueRefused("number", `${quoted(text)} is too large for a number`);
  return value;
}

/** Return the whole number in a cleaned text, null if it is written with a fraction or an exponent. */
export function wholeOf(text: string): bigint | null {
  const written = writtenNumber(text);
  if (written === null || written.decimal !== "" || written.exponent !== "") return null;
  return BigInt(written.body.replace(/[^0-9]/g, ""));
}

/**
 * Return whether a float has another value than the whole number that it was made from. Programs write a float as its
 * shortest digits, filled up with zeros; these are no other value.
 */
export function isChanged(whole: bigint, number: number): boolean {
  const [size, float] = [whole < 0n ? -whole : whole, Math.abs(number)];
  return BigInt(float) !== size && shortestWhole(float) !== size;
}

function shortestWhole(number: number): bigint {
  const [digits, exponent = "0"] = String(number).split("e+");
  const [whole, fraction = ""] = digits.split(".");
  return BigInt((whole + fraction).padEnd(whole.length + Number(exponent), "0"));
}

/** Return a number of a declared integer metric. Throws ValueRefused. */
export function integerOf(value: number, text: string): bigint {
  const digits = cleaned(text);
  const isWhole = /^[+-]?[0-9]+$/.test(digits) && digits.length <= 20;
  if (!isWhole && !Number.isInteger(value)) throw new ValueRefused("type", `${quoted(text)} is not an integer`);
  return checkedInteger(BigInt(isWhole ? digits.replace("+", "") : value), text);
}

/** Return a whole number within signed 64 bits. Throws ValueRefused. */
export function checkedInteger(whole: bigint, text: string): bigint {
  if (whole < MIN_INTEGER || whole > MAX_INTEGER)
    throw new ValueRefused("number", `${quoted(text)} is outside signed 64 bits`);
  return whole;
}

/** Return the boolean that a word means, null for another word. 1 and 0 count only where they are declared. */
export function truthOf(text: string, isDeclared: boolean): boolean | null {
  return (isDeclared ? DECLARED_TRUTHS : TRUTHS).get(cleaned(text).toLowerCase()) ?? null;
}

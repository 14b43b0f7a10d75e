/**
 * JSON with exact numbers: JSON.parse rounds nanoseconds and other whole numbers beyond 2^53, and keeps the last member
 * of a repeated name only.
 */

/** A number that is too large for a float64, as it is written. */
export class LargeNumber {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

/** Object of JSON. `repeated` are the members behind the first one with their name. */
export class JsonObject {
  readonly members = new Map<string, JsonValue>();
  readonly repeated: [string, JsonValue][] = [];
}

/** A parsed value. Whole numbers that a float64 does not keep are bigints. */
export type JsonValue = null | boolean | number | bigint | string | LargeNumber | JsonObject | JsonValue[];

/** A text that is not JSON; `isTooDeep` if it has more than MAX_LEVELS levels. */
export class JsonError extends Error {
  readonly isTooDeep: boolean;
  constructor(message: string, isTooDeep = false) {
    super(message);
    this.isTooDeep = isTooDeep;
  }
}

/** Levels that are parsed: the parser is recursive. */
export const MAX_LEVELS = 256;

/** Return the value of a JSON text. With `hasWords`, NaN, infinity, None and undefined are null. Throws JsonError. */
export function parseExact(text: string, hasWords = false): JsonValue {
  return new Parser(text, hasWords).parse();
}

const SPACE = /[ \t\n\r]*/y;
const NUMBER = /-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/y;
const LITERAL = /true|false|null/y;
const WORD = /[+-]?(?:nan|inf(?:inity)?)\b|none\b|undefined\b/iy;
/** Half a surrogate pair cannot be encoded as UTF-8. */
const LONE_SURROGATE = /\p{Surrogate}/u;
const LITERALS: Record<string, boolean | null> = { true: true, false: false, null: null };

class Parser {
  private position = 0;
  private readonly text: string;
  private readonly hasWords: boolean;

  constructor(text: string, hasWords: boolean) {
    this.text = text;
    this.hasWords = hasWords;
  }

  parse(): JsonValue {
    const value = this.value(1);
    this.match(SPACE);
    if (this.position < this.text.length) throw this.error("more follows behind the value");
    return value;
  }

  private value(level: number): JsonValue {
    if (level > MAX_LEVELS) throw new JsonError(`more than ${MAX_LEVELS} levels`, true);
    this.match(SPACE);
    switch (this.text[this.position]) {
      case "{":
        return this.object(level);
      case "[":
        return this.list(level);
      case '"':
        return this.string();
    }
    const word = this.match(LITERAL);
    if (word !== "") return LITERALS[word];
    if (this.hasWords && this.match(WORD) !== "") return null;
    return this.number();
  }

  private object(level: number): JsonObject {
    const found = new JsonObject();
    this.position++;
    if (this.skips("}")) return found;
    do {
      this.match(SPACE);
      if (this.text[this.position] !== '"') throw this.error("a name in quotes is missing");
      const name = this.string();
      if (!this.skips(":")) throw this.error("a colon is missing");
      const value = this.value(level + 1);
      if (found.members.has(name)) found.repeated.push([name, value]);
      else found.members.set(name, value);
    } while (this.skips(","));
    if (!this.skips("}")) throw this.error("the object is not closed");
    return found;
  }

  private list(level: number): JsonValue[] {
    const found: JsonValue[] = [];
    this.position++;
    if (this.skips("]")) return found;
    do found.push(this.value(level + 1));
    while (this.skips(","));
    if (!this.skips("]")) throw this.error("the list is not closed");
    return found;
  }

  private string(): string {
    const end = this.endOfString();
    // The text in quotes is JSON by itself, so the browser decodes its escapes.
    const quoted = this.text.slice(this.position, end);
    let value: string;
    try {
      value = JSON.parse(quoted) as string;
    } catch {
      throw this.error("a text has an escape or a control character that is not allowed");
    }
    if (LONE_SURROGATE.test(value)) throw this.error("a text contains half of a surrogate pair");
    this.position = end;
    return value;
  }

  private endOfString(): number {
    for (let at = this.position + 1; at < this.text.length; at++) {
      if (this.text[at] === "\\") at++;
      else if (this.text[at] === '"') return at + 1;
    }
    throw this.error("a quote is not closed");
  }

  private number(): number | bigint | LargeNumber {
    NUMBER.lastIndex = this.position;
    const found = NUMBER.exec(this.text);
    if (found === null) throw this.error("no value");
    this.position = NUMBER.lastIndex;
    if (found[1] === undefined && found[2] === undefined) return wholeNumber(BigInt(found[0]));
    const number = Number(found[0]);
    return Number.isFinite(number) ? number : new LargeNumber(found[0]);
  }

  /** Skip white space and a mark, if it is the next one. */
  private skips(mark: string): boolean {
    this.match(SPACE);
    if (this.text[this.position] !== mark) return false;
    this.position++;
    return true;
  }

  private match(expression: RegExp): string {
    expression.lastIndex = this.position;
    const found = expression.exec(this.text);
    if (found === null) return "";
    this.position = expression.lastIndex;
    return found[0];
  }

  private error(message: string): JsonError {
    return new JsonError(`${message} (character ${this.position + 1})`);
  }
}

/** Return a whole number as a float64 if that keeps it. */
export function wholeNumber(value: bigint): number | bigint {
  return value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER ? Number(value) : value;
}

/** A value that can be encoded: plain objects and lists, and bigints as whole numbers. */
export type Encodable =
  | null
  | boolean
  | number
  | bigint
  | string
  | undefined
  | Encodable[]
  | { [name: string]: Encodable };

/** Return a value as JSON. Members that are undefined are left out, and bigints are written with all digits. */
export function encodeExact(value: Encodable): string {
  if (typeof value === "bigint") return String(value);
  // JSON.stringify writes 0.
  if (Object.is(value, -0)) return "-0.0";
  if (Array.isArray(value)) return `[${value.map(encodeExact).join(",")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  const members = Object.entries(value).filter(([, member]) => member !== undefined);
  return `{${members.map(([name, member]) => `${JSON.stringify(name)}:${encodeExact(member)}`).join(",")}}`;
}

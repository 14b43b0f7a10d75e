/** Names of devices and metrics: the repair of invalid names, and templates that build names from fields. As names.py. */

import type { RawValue } from "./record";
import { sha256 } from "./sha256";

const MAX_DEVICE_ID = 64;
const MAX_METRIC_NAME = 128;
/** Hexadecimal digits of a hash that are appended to a changed name. */
const HASH_DIGITS = 12;

const NOT_IN_DEVICE = /[^A-Za-z0-9_.-]/gu;
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are the characters that a name cannot have
const NOT_IN_METRIC = /[\x00-\x1f\x7f]/g;

/** Return the text of a field by its name, or null. */
export type Lookup = (name: string) => string | null;

/**
 * Return a device id for a name. In an invalid name, characters become "_", and "-" with a hash of the name is
 * appended, so that different names have different ids.
 */
export function legalDevice(name: string): string {
  const changed = name.replace(NOT_IN_DEVICE, "_");
  if (name !== "" && name.length <= MAX_DEVICE_ID && changed === name && name !== "." && name !== "..") return name;
  return withHash(changed, name, MAX_DEVICE_ID);
}

/** Return a metric name for a name: text without control characters and without a space at either end. */
export function legalMetric(name: string): string {
  const changed = name.replace(NOT_IN_METRIC, "_").replace(/^ +| +$/g, "");
  if (name !== "" && [...name].length <= MAX_METRIC_NAME && changed === name) return name;
  return withHash(changed, name, MAX_METRIC_NAME);
}

function withHash(changed: string, name: string, maxLength: number): string {
  const suffix = `-${sha256(new TextEncoder().encode(name)).slice(0, HASH_DIGITS)}`;
  // Lengths are in characters, as in Python.
  return [...changed].slice(0, maxLength - suffix.length).join("") + suffix;
}

/** A name with places such as "{model}-{id}"; "{host|location}" is the first field that exists. */
export class Template {
  /** All names in places. */
  readonly fields: ReadonlySet<string>;
  private readonly parts: (string | string[])[];

  constructor(text: string) {
    // The parts are text and places in turn.
    this.parts = text.split(/\{([^{}]*)\}/).map((part, number) => (number % 2 === 1 ? part.split("|") : part));
    this.fields = new Set(this.parts.flatMap((part) => (Array.isArray(part) ? part : [])));
  }

  /** Return the name, or `missing` with the place for which no field exists. */
  fill(lookup: Lookup): { name: string } | { missing: string } {
    let name = "";
    for (const part of this.parts) {
      if (typeof part === "string") {
        name += part;
        continue;
      }
      const found = part.map(lookup).find(Boolean);
      if (found == null) return { missing: part.join("|") };
      name += found;
    }
    return { name };
  }
}

/** Return the lookup of a text in names first, then in values. */
export function lookupIn(names: ReadonlyMap<string, string>, values: ReadonlyMap<string, RawValue>): Lookup {
  return (name) => {
    const known = names.get(name);
    if (known !== undefined) return known;
    const value = values.get(name) ?? null;
    return value === null || (typeof value === "object" && value !== null) ? null : String(value).trim();
  };
}

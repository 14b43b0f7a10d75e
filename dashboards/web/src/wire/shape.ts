/** Checks that a parsed JSON value has a message's shape: no unknown fields, no missing ones, each in its bounds. */

import { WireError } from "./errors";

/** Throws WireError("bad_message") when a value is not what it should be; `path` says where. */
export type Check = (value: unknown, path: string) => void;

/** A field's check, and whether it may be missing. */
interface Field {
  check: Check;
  optional: boolean;
}

export type Fields = Record<string, Field>;

function refuse(path: string, expected: string): never {
  throw new WireError("bad_message", `expected ${expected} at ${path}`);
}

export const required = (check: Check): Field => ({ check, optional: false });
export const optional = (check: Check): Field => ({ check, optional: true });

const LONE_SURROGATE = /\p{Surrogate}/u;

/** A string whose length is within the bounds, counted in code points as Python does. */
export function text(min = 0, max = Number.POSITIVE_INFINITY): Check {
  return (value, path) => {
    // Half of a surrogate pair cannot be written as UTF-8.
    if (typeof value !== "string" || LONE_SURROGATE.test(value)) refuse(path, "a string");
    const length = value.length > min && value.length <= max ? value.length : [...value].length;
    if (length < min || length > max) refuse(path, `a string of ${min} to ${max} characters`);
  };
}

export function pattern(expression: RegExp): Check {
  return (value, path) => {
    if (typeof value !== "string" || !expression.test(value))
      refuse(path, `a string like ${expression.source}`);
  };
}

export function oneOf(...allowed: readonly string[]): Check {
  return (value, path) => {
    if (typeof value !== "string" || !allowed.includes(value)) refuse(path, `one of ${allowed.join(", ")}`);
  };
}

export function integer(min: number, max: number): Check {
  return (value, path) => {
    if (typeof value !== "number" || !Number.isInteger(value) || value < min || value > max)
      refuse(path, `an integer from ${min} to ${max}`);
  };
}

export const number: Check = (value, path) => {
  if (typeof value !== "number" || !Number.isFinite(value)) refuse(path, "a number");
};

export const boolean: Check = (value, path) => {
  if (typeof value !== "boolean") refuse(path, "true or false");
};

export function nullable(check: Check): Check {
  return (value, path) => {
    if (value !== null) check(value, path);
  };
}

export function list(check: Check, min = 0, max = Number.POSITIVE_INFINITY): Check {
  return (value, path) => {
    if (!Array.isArray(value) || value.length < min || value.length > max)
      refuse(path, `a list of ${min} to ${max} items`);
    value.forEach((item, index) => {
      check(item, `${path}[${index}]`);
    });
  };
}

/** An object with any keys, each value checked. */
export function dictionary(check: Check): Check {
  return (value, path) => {
    if (!isObject(value)) refuse(path, "an object");
    for (const [key, item] of Object.entries(value)) check(item, `${path}.${key}`);
  };
}

/** An object with exactly these fields. */
export function object(fields: Fields): Check {
  return (value, path) => {
    if (!isObject(value)) refuse(path, "an object");
    for (const key of Object.keys(value))
      if (!Object.hasOwn(fields, key)) throw new WireError("bad_message", `unknown field ${key} at ${path}`);
    for (const [key, field] of Object.entries(fields)) {
      if (Object.hasOwn(value, key)) field.check(value[key], `${path}.${key}`);
      else if (!field.optional) throw new WireError("bad_message", `missing field ${key} at ${path}`);
    }
  };
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

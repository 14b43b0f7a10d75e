/** Checks of parsed JSON values: no unknown field, no missing field, every value within its limits. */

import { WireError } from "./protocol";

/** A check throws WireError("bad_message") for an invalid value; `path` locates it. `T` is the type of valid values. */
export interface Check<T> {
  (value: unknown, path: string): void;
  readonly type?: T;
}

/** The check of a field, and whether the field is optional. */
interface Field<T, Optional extends boolean> {
  check: Check<T>;
  optional: Optional;
}

export type Fields = Record<string, Field<unknown, boolean>>;

/** The type of an object with these fields. */
export type Infer<F extends Fields> = {
  [K in keyof F as F[K]["optional"] extends true ? never : K]: FieldType<F[K]>;
} & {
  [K in keyof F as F[K]["optional"] extends true ? K : never]?: FieldType<F[K]>;
};
type FieldType<F> = F extends Field<infer T, boolean> ? T : never;

function reject(path: string, expected: string): never {
  throw new WireError("bad_message", `expected ${expected} at ${path}`);
}

export const required = <T>(check: Check<T>): Field<T, false> => ({ check, optional: false });
export const optional = <T>(check: Check<T>): Field<T, true> => ({ check, optional: true });

const LONE_SURROGATE = /\p{Surrogate}/u;

/** Check a string and its length, counted in code points as in Python. */
export function text(min = 0, max = Number.POSITIVE_INFINITY): Check<string> {
  return (value, path) => {
    // Half a surrogate pair cannot be encoded as UTF-8.
    if (typeof value !== "string" || LONE_SURROGATE.test(value)) reject(path, "a string");
    const length = value.length > min && value.length <= max ? value.length : [...value].length;
    if (length < min || length > max) reject(path, `a string of ${min} to ${max} characters`);
  };
}

export function pattern(expression: RegExp): Check<string> {
  return (value, path) => {
    if (typeof value !== "string" || !expression.test(value)) reject(path, `a string like ${expression.source}`);
  };
}

export function oneOf<const T extends string>(...allowed: readonly T[]): Check<T> {
  return (value, path) => {
    if (!allowed.some((item) => item === value)) reject(path, `one of ${allowed.join(", ")}`);
  };
}

export function integer(min: number, max: number): Check<number> {
  return (value, path) => {
    if (typeof value !== "number" || !Number.isInteger(value) || value < min || value > max)
      reject(path, `an integer from ${min} to ${max}`);
  };
}

export const number: Check<number> = (value, path) => {
  if (typeof value !== "number" || !Number.isFinite(value)) reject(path, "a number");
};

export const boolean: Check<boolean> = (value, path) => {
  if (typeof value !== "boolean") reject(path, "true or false");
};

export function nullable<T>(check: Check<T>): Check<T | null> {
  return (value, path) => {
    if (value !== null) check(value, path);
  };
}

export function list<T>(check: Check<T>, min = 0, max = Number.POSITIVE_INFINITY): Check<T[]> {
  return (value, path) => {
    if (!Array.isArray(value) || value.length < min || value.length > max)
      reject(path, `a list of ${min} to ${max} items`);
    value.forEach((item, index) => {
      check(item, `${path}[${index}]`);
    });
  };
}

/** Check an object with arbitrary keys. */
export function dictionary<T>(check: Check<T>): Check<Record<string, T>> {
  return (value, path) => {
    if (!isObject(value)) reject(path, "an object");
    for (const [key, item] of Object.entries(value)) check(item, `${path}.${key}`);
  };
}

/** Check an object with exactly these fields. */
export function object<F extends Fields>(fields: F): Check<Infer<F>> {
  return (value, path) => {
    if (!isObject(value)) reject(path, "an object");
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

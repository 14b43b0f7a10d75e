/** Commands to a device: the form of a declared command, the check of its values, and the words of its states. Pure. */

import type { CommandDetails, DeclaredCommand, DeclaredParameter } from "../wire/api";
import { dateTime, millisecondsOf, shortDuration } from "./time";

export type ParameterValue = number | boolean | string;
export type CommandStateName = CommandDetails["state"];

/** The values of a form by parameter, as texts; an empty one is not given. Of a choice it is the value as JSON. */
export type FormValues = Record<string, string>;

export type FieldKind = "number" | "text" | "switch" | "segments" | "select";

/** More choices, or longer ones, are a list to select from. */
const MAX_SEGMENTS = 4;
const MAX_SEGMENT_CHARACTERS = 24;

/** Times in which a queued command is sent, in seconds. */
export const TTLS = [
  ["600", "10 minutes"],
  ["3600", "an hour"],
  ["21600", "6 hours"],
  ["86400", "a day"],
  ["604800", "7 days"],
] as const;

/** Times for the result of a command, in seconds. */
export const TIMEOUTS = [
  ["10", "10 seconds"],
  ["60", "a minute"],
  ["600", "10 minutes"],
  ["3600", "an hour"],
] as const;

/** Return the choices of a parameter as pairs of JSON and text; none for a number or a text without choices. */
export function optionsOf({ type, choices }: DeclaredParameter): (readonly [string, string])[] {
  const values = choices.length === 0 && type === "boolean" ? [true, false] : choices;
  return values.map((value) => [JSON.stringify(value), valueText(value)]);
}

/** Return the control for a parameter. A boolean without a default is a choice: no value of it is preselected. */
export function fieldKind(parameter: DeclaredParameter): FieldKind {
  const { type, choices, required, default: preset } = parameter;
  if (type === "boolean" && choices.length === 0 && preset !== null) return "switch";
  const options = optionsOf(parameter);
  if (options.length === 0) return type === "string" ? "text" : "number";
  const characters = options.reduce((sum, [, text]) => sum + text.length, 0);
  const fits = options.length <= MAX_SEGMENTS && characters <= MAX_SEGMENT_CHARACTERS;
  return fits && (required || preset !== null) ? "segments" : "select";
}

export function initialValues(parameters: DeclaredParameter[]): FormValues {
  return Object.fromEntries(parameters.map((parameter) => [parameter.name, fieldText(parameter, parameter.default)]));
}

/**
 * Return a parameter whose field is empty at first: of many devices, each takes its own default for a value that is not
 * sent. The default is a hint.
 */
export function withoutDefault(parameter: DeclaredParameter): DeclaredParameter {
  const { default: preset, description, unit } = parameter;
  if (preset === null) return parameter;
  const hint = `default ${withUnit(preset, unit)}`;
  return {
    ...parameter,
    required: false,
    default: null,
    description: description === "" ? hint : `${description} · ${hint}`,
  };
}

/** Return values as the texts of their fields. A value that a parameter does not accept any more is left out. */
export function textsOf(parameters: DeclaredParameter[], values: Record<string, ParameterValue>): FormValues {
  const texts = parameters.flatMap((parameter) => {
    const value = values[parameter.name];
    const text = value === undefined ? "" : fieldText(parameter, value);
    const options = optionsOf(parameter);
    const isAccepted = options.length === 0 || options.some(([option]) => option === text);
    return text !== "" && isAccepted && checkValue(parameter, text).problem === undefined
      ? [[parameter.name, text] as const]
      : [];
  });
  return Object.fromEntries(texts);
}

/** Return a value as the text of its field. */
export function fieldText(parameter: DeclaredParameter, value: ParameterValue | null): string {
  if (value === null) return "";
  return fieldKind(parameter) === "text" ? String(value) : JSON.stringify(value);
}

/** The value of a field, undefined if it is not given; or why the device does not accept it. */
export interface CheckedValue {
  value?: ParameterValue;
  problem?: string;
}

const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

/** Check the text of a field as the hub does before it records a command. */
export function checkValue(parameter: DeclaredParameter, text: string): CheckedValue {
  const kind = fieldKind(parameter);
  if (text === "" || (kind === "number" && text.trim() === "")) {
    const isMissing = parameter.required && parameter.default === null;
    return isMissing ? { problem: kind === "number" || kind === "text" ? "Enter a value." : "Choose a value." } : {};
  }
  if (kind === "text") return { value: text };
  if (kind !== "number") return { value: JSON.parse(text) as ParameterValue };
  return checkNumber(parameter, text.trim().replace(/^[−–]/, "-"));
}

function checkNumber({ type, min, max, unit }: DeclaredParameter, text: string): CheckedValue {
  const value = Number(text);
  if (!NUMBER.test(text) || !Number.isFinite(value))
    return {
      problem: text.includes(",") ? "Write decimals with a point, without other separators." : "Enter a number.",
    };
  if (type === "integer" && !Number.isInteger(value)) return { problem: "Enter a whole number." };
  // Beyond it, a browser would send another number.
  if (type === "integer" && !Number.isSafeInteger(value))
    return { problem: "A browser cannot send so large a number exactly: use hub command send." };
  if (min !== null && value < min) return { problem: `At least ${withUnit(min, unit)}.` };
  if (max !== null && value > max) return { problem: `At most ${withUnit(max, unit)}.` };
  return { value };
}

/** Return the parameters to send, and a problem for each value that the device does not accept. */
export function checkForm(
  parameters: DeclaredParameter[],
  values: FormValues,
): { parameters: Record<string, ParameterValue>; problems: Record<string, string> } {
  const checked = parameters.map(
    (parameter) => [parameter.name, checkValue(parameter, values[parameter.name])] as const,
  );
  return {
    parameters: Object.fromEntries(
      checked.flatMap(([name, { value }]) => (value === undefined ? [] : [[name, value]])),
    ),
    problems: Object.fromEntries(
      checked.flatMap(([name, { problem }]) => (problem === undefined ? [] : [[name, problem]])),
    ),
  };
}

/** Return what a field accepts: 0 to 110 km/h, default 30; empty if it accepts any value of its type. */
export function hintOf({ type, min, max, unit, required, default: preset, description }: DeclaredParameter): string {
  const [low, high] = [min, max].map((bound) => (bound === null ? null : numberText(bound)));
  let range = "";
  if (low !== null && high !== null) range = `${low} to ${high}`;
  else if (low !== null) range = `at least ${low}`;
  else if (high !== null) range = `at most ${high}`;
  const parts = [
    description,
    withSuffix(range, range === "" ? "" : unit),
    range === "" && type === "integer" ? "a whole number" : "",
    preset === null ? "" : `default ${valueText(preset)}`,
    required || preset !== null ? "" : "may be left empty",
  ];
  return parts.filter((part) => part !== "").join(" · ");
}

export function valueText(value: ParameterValue): string {
  if (typeof value === "boolean") return value ? "On" : "Off";
  return typeof value === "number" ? numberText(value) : value;
}

function numberText(value: number): string {
  return String(value).replace("-", "−");
}

export function withUnit(value: ParameterValue, unit: string): string {
  return withSuffix(valueText(value), unit);
}

function withSuffix(text: string, unit: string): string {
  return unit === "" ? text : `${text} ${unit}`;
}

/** Return parameters as a text: speed 30 km/h, gear 2. `declared` has the units. */
export function parametersText(
  parameters: Record<string, ParameterValue>,
  declared: DeclaredCommand | undefined,
): string {
  return Object.entries(parameters)
    .map(([name, value]) => {
      const parameter = declared?.parameters.find((known) => known.name === name);
      return `${name} ${withUnit(value, parameter?.unit ?? "")}`;
    })
    .join(", ");
}

/** Return the result of a command as a text; empty if there is none. */
export function resultText(result: unknown): string {
  if (result === null || result === undefined) return "";
  return typeof result === "string" ? result : JSON.stringify(result);
}

export const STATE_TEXTS: Record<CommandStateName, string> = {
  queued: "Queued",
  sent: "Sent",
  received: "Received",
  succeeded: "Succeeded",
  failed: "Failed",
  rejected: "Rejected",
  expired: "Expired",
  timed_out: "No result in time",
  cancelled: "Cancelled",
};

export function isOpen({ state }: Pick<CommandDetails, "state">): boolean {
  return state === "queued" || state === "sent" || state === "received";
}

/** Return what a state means, as a sentence without the hub's reason. */
export function meaningOf(command: CommandDetails, isConnected: boolean, now_ms: number): string {
  const { device, state, late } = command;
  switch (state) {
    case "queued":
      if (isConnected) return "It waits for its turn.";
      return `${device} is not connected. The command waits for it, at most until ${dateTime(command.expires_ns / 1e6, now_ms, "minutes")}.`;
    case "sent":
      return `${device} has not confirmed it yet.`;
    case "received":
      return `${device} has it, and has not reported a result yet.`;
    case "succeeded":
      return late ? `${device} executed it, after the time for the result had passed.` : `${device} executed it.`;
    case "failed":
      return `${device} reports that it failed${late ? ", after the time for the result had passed" : ""}.`;
    case "rejected":
      return `${device} did not execute it.`;
    case "expired":
      return `The time passed before it could be sent. ${device} does not have it.`;
    case "timed_out":
      return command.states.some((change) => change.state === "received")
        ? `${device} has it, and reported no result in time. A late result is still recorded.`
        : `It is not known whether ${device} has it. A late result is still recorded.`;
    case "cancelled":
      return "It was taken back before it was sent.";
  }
}

/** Codes whose meaning `meaningOf` has already, or says better. */
const EXPLAINED = new Set(["not_connected", "not_sent", "not_confirmed", "no_result"]);

/** Return the reason of a state in words: the sentence of the device or the hub; empty if there is none. */
export function reasonOf({ code, message }: Pick<CommandDetails, "code" | "message">): string {
  if (EXPLAINED.has(code)) return "";
  return message === "" ? code.replaceAll("_", " ") : message;
}

/** A state of a command or of a job, and how long after the one before it came; empty for the first. */
export interface CommandStep {
  text: string;
  time_ms: number;
  after: string;
  reason: string;
}

export function stepsOf({ states }: CommandDetails): CommandStep[] {
  return changesOf(states, STATE_TEXTS);
}

/** A change as the hub reports it. */
interface StateChange<S> {
  state: S;
  time_ns: number;
  code: string;
  message: string;
}

/** Return changes of a state as steps, with the words of the states. */
export function changesOf<S extends string>(changes: StateChange<S>[], texts: Record<S, string>): CommandStep[] {
  return changes.map(({ state, time_ns, code, message }, index) => ({
    text: texts[state],
    time_ms: millisecondsOf(time_ns),
    after: index === 0 ? "" : `+${shortDuration(Math.max(0, time_ns - changes[index - 1].time_ns) / 1e6)}`,
    reason: message === "" ? code.replaceAll("_", " ") : message,
  }));
}

/** Return how the command will reach the device. */
export function modeText(device: string, isConnected: boolean, ttl_s: string): string {
  if (isConnected) return `${device} is connected: the command is sent at once.`;
  const ttl = TTLS.find(([seconds]) => seconds === ttl_s)?.[1] ?? `${ttl_s} s`;
  return `${device} is not connected: the command waits for it, at most ${ttl}.`;
}

/** Return the refusal of the hub at the fields that it names, and what is not about a field. */
export function refusalOf(
  detail: string,
  parameters: DeclaredParameter[],
): { fields: Record<string, string>; rest: string } {
  const end = detail.lastIndexOf(". Expected: ");
  const fields: Record<string, string> = {};
  let name: string | undefined;
  for (const part of (end < 0 ? detail : detail.slice(0, end)).split("; ")) {
    const begun = parameters.find((parameter) => part.startsWith(`${parameter.name}: `))?.name;
    if (begun !== undefined) fields[begun] = part.slice(begun.length + 2);
    else if (name !== undefined) fields[name] += `; ${part}`;
    else return { fields: {}, rest: detail };
    name = begun ?? name;
  }
  return { fields, rest: end < 0 ? "" : detail.slice(end + 2) };
}

/**
 * Return the commands with newer versions of some of them, newest first. Answers may arrive in another order than they
 * were made: the version with more states is the newer one.
 */
export function mergeCommands(known: CommandDetails[], answered: CommandDetails[]): CommandDetails[] {
  const merged = new Map(known.map((command) => [command.id, command]));
  for (const command of answered) {
    const before = merged.get(command.id);
    if (before === undefined || before.states.length <= command.states.length) merged.set(command.id, command);
  }
  return [...merged.values()].sort((a, b) => b.created_ns - a.created_ns);
}

import { describe, expect, it } from "vitest";
import {
  checkForm,
  checkValue,
  fieldKind,
  hintOf,
  initialValues,
  meaningOf,
  mergeCommands,
  modeText,
  parametersText,
  reasonOf,
  refusalOf,
  resultText,
  stepsOf,
  textsOf,
  withoutDefault,
} from "../../src/data/commands";
import type { CommandDetails, DeclaredParameter } from "../../src/wire/api";

const parameter = (changed: Partial<DeclaredParameter> = {}): DeclaredParameter => ({
  name: "speed",
  type: "float",
  unit: "km/h",
  min: 0,
  max: 110,
  choices: [],
  required: true,
  default: null,
  description: "",
  ...changed,
});
const free = { min: null, max: null, unit: "" };

const DAY_NS = 86_400e9;

function command(changed: Partial<CommandDetails> = {}): CommandDetails {
  return {
    id: "4f1c9a2e7b3d5860",
    device: "pump-7",
    name: "set_speed",
    parameters: { speed: 12.5 },
    mode: "call",
    operator: "operator k3vq",
    job: null,
    created_ns: DAY_NS,
    timeout_ms: 10_000,
    expires_ns: DAY_NS + 10e9,
    state: "queued",
    code: "",
    message: "",
    late: false,
    result: null,
    states: [{ state: "queued", time_ns: DAY_NS, code: "", message: "" }],
    ...changed,
  };
}

describe("the form of a declared command", () => {
  it("is filled with known values that are still accepted", () => {
    const lights = parameter({ ...free, name: "lights", type: "boolean", required: false });
    const mode = parameter({ ...free, name: "mode", type: "string", choices: ["eco", "sport"] });
    const note = parameter({ ...free, name: "note", type: "string" });
    const known = { speed: 30, lights: false, mode: "fast", note: "slow down", other: 1 };
    expect(textsOf([parameter(), lights, mode, note], known)).toEqual({
      speed: "30",
      lights: "false",
      note: "slow down",
    });
    expect(textsOf([parameter({ max: 20 }), lights], { speed: 30 })).toEqual({});
  });

  it("sends no default to many devices", () => {
    const lights = withoutDefault(parameter({ ...free, name: "lights", type: "boolean", default: true }));
    expect(fieldKind(lights)).toBe("select");
    const speed = withoutDefault(parameter({ default: 30, description: "of the motor" }));
    expect(hintOf(speed)).toBe("of the motor · default 30 km/h · 0 to 110 km/h · may be left empty");
    expect(checkForm([lights, speed], initialValues([lights, speed]))).toEqual({ parameters: {}, problems: {} });
    expect(withoutDefault(parameter())).toEqual(parameter());
  });

  it("has a control for each type", () => {
    expect(fieldKind(parameter())).toBe("number");
    expect(fieldKind(parameter({ type: "integer" }))).toBe("number");
    expect(fieldKind(parameter({ ...free, type: "string" }))).toBe("text");
    expect(fieldKind(parameter({ ...free, type: "boolean", default: false }))).toBe("switch");
    expect(fieldKind(parameter({ type: "integer", choices: [1, 2, 3] }))).toBe("segments");
    expect(fieldKind(parameter({ type: "integer", choices: [1, 2, 3, 4, 5] }))).toBe("select");
    expect(fieldKind(parameter({ ...free, type: "string", choices: ["a long choice of", "two or more words"] }))).toBe(
      "select",
    );
  });

  it("preselects nothing that the device does not", () => {
    const open = parameter({ ...free, type: "boolean" });
    expect(fieldKind(open)).toBe("segments");
    expect(initialValues([open])).toEqual({ speed: "" });
    expect(checkValue(open, "")).toEqual({ problem: "Choose a value." });
    expect(checkValue(open, "false")).toEqual({ value: false });
    expect(fieldKind(parameter({ ...free, type: "boolean", required: false }))).toBe("select");
  });

  it("begins with the defaults", () => {
    const declared = [
      parameter({ default: 30 }),
      parameter({ ...free, name: "text", type: "string", default: "a b" }),
      parameter({ ...free, name: "mode", type: "string", choices: ["eco", "full"], default: "eco" }),
      parameter({ ...free, name: "light", type: "boolean", default: true }),
      parameter({ name: "gear", type: "integer", required: false }),
    ];
    const values = initialValues(declared);
    expect(values).toEqual({ speed: "30", text: "a b", mode: '"eco"', light: "true", gear: "" });
    expect(checkForm(declared, values)).toEqual({
      parameters: { speed: 30, text: "a b", mode: "eco", light: true },
      problems: {},
    });
  });

  it("leaves a cleared default to the hub", () => {
    expect(checkForm([parameter({ default: 30 })], { speed: " " })).toEqual({ parameters: {}, problems: {} });
  });

  it("describes what a field accepts", () => {
    expect(hintOf(parameter())).toBe("0 to 110 km/h");
    expect(hintOf(parameter({ min: -5, max: null, default: -1 }))).toBe("at least −5 km/h · default −1");
    expect(hintOf(parameter({ min: null, max: 9, required: false }))).toBe("at most 9 km/h · may be left empty");
    expect(hintOf(parameter({ ...free, type: "integer", description: "Steps" }))).toBe("Steps · a whole number");
  });
});

describe("checkValue", () => {
  it("accepts numbers within the range", () => {
    for (const [text, value] of [
      ["12.5", 12.5],
      [" 0 ", 0],
      ["1e2", 100],
      ["+5", 5],
      [".5", 0.5],
    ] as const)
      expect(checkValue(parameter(), text)).toEqual({ value });
    expect(checkValue(parameter({ min: -9 }), "−3")).toEqual({ value: -3 });
  });

  it("explains what it does not accept", () => {
    const problem = (text: string, changed: Partial<DeclaredParameter> = {}) =>
      checkValue(parameter(changed), text).problem;
    expect(problem("")).toBe("Enter a value.");
    expect(problem("fast")).toBe("Enter a number.");
    expect(problem("0x10")).toBe("Enter a number.");
    expect(problem("1e999")).toBe("Enter a number.");
    expect(problem("12,5")).toBe("Write decimals with a point, without other separators.");
    expect(problem("110.1")).toBe("At most 110 km/h.");
    expect(problem("-1")).toBe("At least 0 km/h.");
    expect(problem("1.5", { type: "integer" })).toBe("Enter a whole number.");
    expect(problem("9007199254740993", { ...free, type: "integer" })).toContain("hub command send");
  });
});

describe("the words of a command", () => {
  const now_ms = DAY_NS / 1e6;

  it("never call a command delivered that is not", () => {
    expect(meaningOf(command({ expires_ns: 2 * DAY_NS }), false, now_ms)).toMatch(
      /^pump-7 is not connected\. The command waits for it, at most until /,
    );
    expect(meaningOf(command(), true, now_ms)).toBe("It waits for its turn.");
    expect(meaningOf(command({ state: "sent" }), true, now_ms)).toBe("pump-7 has not confirmed it yet.");
    expect(meaningOf(command({ state: "rejected" }), true, now_ms)).toBe("pump-7 did not execute it.");
  });

  it("distinguish what is known after the time has passed", () => {
    const received = { state: "received", time_ns: DAY_NS, code: "", message: "" } as const;
    expect(meaningOf(command({ state: "timed_out" }), true, now_ms)).toContain("not known whether pump-7 has it");
    expect(meaningOf(command({ state: "timed_out", states: [received] }), true, now_ms)).toContain("pump-7 has it");
    expect(meaningOf(command({ state: "succeeded", late: true }), true, now_ms)).toContain("after the time");
  });

  it("give the reason of the device, and not twice that of the hub", () => {
    expect(reasonOf({ code: "port_closed", message: "the port is closed" })).toBe("the port is closed");
    expect(reasonOf({ code: "too_late", message: "" })).toBe("too late");
    expect(reasonOf({ code: "no_result", message: "the device has the command" })).toBe("");
  });

  it("say how the command reaches the device", () => {
    expect(modeText("pump-7", true, "86400")).toBe("pump-7 is connected: the command is sent at once.");
    expect(modeText("pump-7", false, "86400")).toBe(
      "pump-7 is not connected: the command waits for it, at most a day.",
    );
  });

  it("show parameters with their units, and results", () => {
    const declared = { name: "set_speed", description: "", confirm: false, usage: "", parameters: [parameter()] };
    expect(parametersText({ speed: 12.5, light: true }, declared)).toBe("speed 12.5 km/h, light On");
    expect(parametersText({ speed: 12.5 }, undefined)).toBe("speed 12.5");
    expect([null, "done", { speed: 1 }].map(resultText)).toEqual(["", "done", '{"speed":1}']);
  });

  it("show each state and how long after the one before it came", () => {
    const states: CommandDetails["states"] = [
      { state: "queued", time_ns: DAY_NS, code: "", message: "" },
      { state: "received", time_ns: DAY_NS + 12e6, code: "not_durable", message: "" },
    ];
    expect(stepsOf(command({ states })).map(({ text, after, reason }) => [text, after, reason])).toEqual([
      ["Queued", "", ""],
      ["Received", "+12.0 ms", "not durable"],
    ]);
  });
});

describe("refusalOf", () => {
  const declared = [parameter(), parameter({ name: "gear", type: "integer" })];

  it("puts each problem at its field, and keeps what is expected", () => {
    const detail = 'speed: "a; b" is not of the type float; gear: a value is missing. Expected: set_speed speed=FLOAT';
    expect(refusalOf(detail, declared)).toEqual({
      fields: { speed: '"a; b" is not of the type float', gear: "a value is missing" },
      rest: "Expected: set_speed speed=FLOAT",
    });
  });

  it("leaves everything else as it is", () => {
    const detail = '"x" is no parameter of set_speed. Expected: set_speed speed=FLOAT';
    expect(refusalOf(detail, declared)).toEqual({ fields: {}, rest: detail });
  });
});

describe("mergeCommands", () => {
  it("keeps the newest version of each command, newest command first", () => {
    const [state] = command().states;
    const older = command({ id: "a", states: [state] });
    const newer = command({ id: "a", state: "sent", states: [state, { ...state, state: "sent" }] });
    const last = command({ id: "b", created_ns: DAY_NS + 1e9 });
    expect(mergeCommands([older], [last, newer])).toEqual([last, newer]);
    expect(mergeCommands([newer], [older])).toEqual([newer]);
  });
});

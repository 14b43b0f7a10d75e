import { describe, expect, it } from "vitest";
import {
  batchProblem,
  batchText,
  cancelText,
  countsOf,
  DEFAULT_OPTIONS,
  jobOf,
  jobStateText,
  mergeJobs,
  newJobId,
  optionsOf,
  optionsText,
  refusalsOf,
  repeatable,
  seenTargets,
  segmentsOf,
  stoppingBatch,
  stopText,
  TARGET_FILTERS,
  TARGET_TEXTS,
  unitText,
} from "../../src/data/command_jobs";
import type { CommandJobCounts, CommandJobDetails, CommandJobDryRun } from "../../src/wire/api";

const NONE: CommandJobCounts = {
  pending: 0,
  refused: 0,
  queued: 0,
  sent: 0,
  received: 0,
  succeeded: 0,
  failed: 0,
  rejected: 0,
  expired: 0,
  timed_out: 0,
  cancelled: 0,
};

function job(changed: Partial<CommandJobDetails> = {}, counts: Partial<CommandJobCounts> = {}): CommandJobDetails {
  return {
    id: "9d1c04a2e7b3d5860a1b2c3d4e5f6071",
    to: ["vehicle-*"],
    name: "set_speed",
    parameters: {},
    mode: "call",
    operator: "operator k3vq",
    created_ns: 1e9,
    deadline_ns: 2e9,
    timeout_ms: 10_000,
    ttl_s: null,
    batch_size: 10,
    batches: 3,
    stop_share: 0.2,
    targets: 25,
    state: "running",
    code: "",
    message: "",
    ended: 0,
    failed: 0,
    counts: { ...NONE, ...counts },
    states: [{ state: "pending", time_ns: 1e9, code: "", message: "" }],
    ...changed,
  };
}

/** A dry run in batches; each letter is a device, and x one that is refused. */
function dryRun(...batches: string[]): CommandJobDryRun {
  const devices = batches.flatMap((letters, index) =>
    [...letters].map((letter, position) => ({
      device: `d-${index}-${position}`,
      batch: index + 1,
      code: letter === "x" ? "not_connected" : "",
      message: letter === "x" ? `d-${index}-${position} is offline` : "",
    })),
  );
  const refused = devices.filter(({ code }) => code !== "").length;
  return { targets: devices.length, batches: batches.length, refused, command: null, units: [], devices };
}

describe("the counts of a job", () => {
  it("has every state once, in the order of the bar", () => {
    const ones = Object.fromEntries(Object.keys(NONE).map((state) => [state, 1])) as unknown as CommandJobCounts;
    expect(countsOf(job({}, ones)).map(({ state }) => state)).toHaveLength(Object.keys(TARGET_TEXTS).length);
    expect(segmentsOf(job({}, ones))).toEqual([
      { part: "succeeded", amount: 1 },
      { part: "open", amount: 3 },
      { part: "failed", amount: 4 },
      { part: "refused", amount: 1 },
      { part: "unsent", amount: 2 },
    ]);
    const listed = [...TARGET_FILTERS.failed.states, ...TARGET_FILTERS.open.states, "succeeded"];
    expect(new Set(listed)).toEqual(new Set(Object.keys(NONE)));
  });

  it("says what is not known, and what follows", () => {
    const counts = { succeeded: 1234, timed_out: 2, pending: 3 };
    expect(countsOf(job({}, counts)).map(({ text }) => text)).toEqual([
      "1,234 succeeded",
      "2 without a result in time",
      "3 not sent yet",
    ]);
    expect(countsOf(job({ state: "stopped" }, counts)).at(-1)?.text).toBe("3 not sent");
  });
});

describe("the words of a job", () => {
  it("says how many succeeded if not all of them did", () => {
    expect(jobStateText(job({ state: "completed" }))).toBe("Completed, 0 of 25 succeeded");
    expect(jobStateText(job({ state: "completed" }, { succeeded: 25 }))).toBe("Completed");
    expect(jobStateText(job({ state: "stopped" }, { succeeded: 1 }))).toBe("Stopped");
  });

  it("names the batch that is sent", () => {
    expect(batchText(job())).toEqual({ batch: "1 of 3", size: "of 10 devices" });
    expect(batchText(job({ ended: 10 })).batch).toBe("2 of 3");
    expect(batchText(job({ ended: 25 })).batch).toBe("3 of 3");
    expect(batchText(job({ ended: 25, state: "completed" })).batch).toBe("3");
    expect(batchText(job({ targets: 1, batches: 1 }))).toEqual({ batch: "1 of 1", size: "of 1 device" });
  });

  it("explains the share, and the cancellation", () => {
    expect([null, 0, 0.2].map(stopText)).toEqual(["never", "after the first failure", "at 20% without success"]);
    expect(cancelText(job({}, { pending: 15, queued: 1, sent: 2, received: 1 }))).toBe(
      "15 devices get no command. 1 command that was not sent is taken back. 3 commands that were sent continue.",
    );
    expect(cancelText(job({}, { pending: 1 }))).toBe("1 device gets no command.");
  });
});

describe("following a job", () => {
  it("asks at most about a hundred times, and at the end of each batch", () => {
    expect(seenTargets(job({ ended: 3 }))).toBe(3);
    expect(seenTargets(job({ targets: 10_000, batch_size: 1000, batches: 10 }))).toBe(100);
    expect(seenTargets(job({ targets: 10_000, batch_size: 1000, batches: 10, ended: 990 }))).toBe(999);
    expect(seenTargets(job({ targets: 10_000, batch_size: 10, batches: 1000 }))).toBe(9);
    expect(seenTargets(job({ targets: 25, ended: 25 }))).toBe(25);
  });

  it("keeps the newer of two answers", () => {
    const running = { state: "running", time_ns: 2e9, code: "", message: "" } as const;
    const newer = job({ ended: 2, states: [...job().states, running] });
    expect(mergeJobs([newer], [job({ ended: 1 })])).toEqual([newer]);
    expect(mergeJobs([newer], [{ ...newer, ended: 1 }])).toEqual([newer]);
    const late = { ...newer, failed: 0, counts: { ...NONE, succeeded: 2 } };
    expect(mergeJobs([newer], [late])).toEqual([late]);
    const other = job({ id: "0".repeat(32), created_ns: 9e9 });
    expect(mergeJobs([newer], [other])).toEqual([other, newer]);
  });
});

describe("a dry run", () => {
  it("groups the devices by the reason", () => {
    const found = dryRun("o.x", "xx");
    found.devices[1] = { device: "d-0-1", batch: 1, code: "unknown_command", message: "there is no stop" };
    expect(refusalsOf(found)).toEqual([
      { reason: "the device is offline", devices: ["d-0-2", "d-1-0", "d-1-1"] },
      { reason: "there is no stop", devices: ["d-0-1"] },
    ]);
  });

  it("shows after which batch the refused devices stop the job", () => {
    expect(stoppingBatch(dryRun("ooooo", "ooooo"), 0)).toBe(null);
    expect(stoppingBatch(dryRun("oooox", "ooooo"), 0.2)).toBe(1);
    expect(stoppingBatch(dryRun("oooox", "ooooo"), 0.5)).toBe(null);
    expect(stoppingBatch(dryRun("oooox", "ooooo"), null)).toBe(null);
    expect(stoppingBatch(dryRun("ooooo", "ooxxx", "o"), 0.3)).toBe(2);
    expect(stoppingBatch(dryRun("ooooo", "xxxxx"), 0)).toBe(null);
  });
});

describe("the request of a form", () => {
  it("has the values of the controls", () => {
    expect(jobOf(["pump-*"], "stop", {}, DEFAULT_OPTIONS)).toEqual({
      to: ["pump-*"],
      name: "stop",
      parameters: {},
      mode: "call",
      timeout_s: 10,
      batch_size: 10,
      stop_share: 0.2,
      confirmed: true,
    });
    const queued = { ...DEFAULT_OPTIONS, isQueued: true, stop: "never" } as const;
    expect(jobOf([], "stop", {}, queued)).toMatchObject({ mode: "queue", ttl_s: 86_400, stop_share: null });
    expect(optionsText(queued)).toBe("batches of 10, stops never, wait for offline devices");
  });

  it("names both units of a parameter that devices take in another one", () => {
    const unit = { parameter: "speed", unit: "m/s", expected: "km/h", devices: 1 };
    expect(unitText(unit, 5)).toBe("1 of 5 devices takes speed in m/s instead of km/h.");
    expect(unitText({ ...unit, unit: "", devices: 2 }, 5)).toBe(
      "2 of 5 devices take speed without a unit instead of km/h.",
    );
  });

  it("keeps the options of a repeated job", () => {
    expect(optionsOf(job())).toEqual(DEFAULT_OPTIONS);
    const options = { batch_size: "3", stop: "never", isQueued: true, ttl_s: "90.5", timeout_s: "0.5" };
    const request = jobOf(["pump-*"], "stop", {}, options);
    const { batch_size, stop_share, mode, ttl_s } = request;
    const repeated = job({ batch_size, stop_share, mode, ttl_s, timeout_ms: 500 });
    expect(jobOf(["pump-*"], "stop", {}, optionsOf(repeated))).toEqual(request);
  });

  it("is repeated for the devices without success if they fit in a request", () => {
    const ended = { state: "completed", targets: 200 } as const;
    expect(repeatable(job(ended, { succeeded: 100 }))).toBe(100);
    expect(repeatable(job(ended, { succeeded: 99 }))).toBe(0);
    expect(repeatable(job(ended, { succeeded: 200 }))).toBe(0);
    expect(repeatable(job({ ...ended, targets: 2 }))).toBe(0);
    expect(repeatable(job({ targets: 2 }, { succeeded: 1 }))).toBe(0);
  });

  it("accepts the batches of the hub", () => {
    expect(["1", "1000"].map(batchProblem)).toEqual([null, null]);
    expect(["", "0", "1001", "1.5", "-1", "x"].every((text) => batchProblem(text) !== null)).toBe(true);
  });

  it("has an id that nobody else has", () => {
    expect(newJobId()).toMatch(/^[0-9a-f]{32}$/);
    expect(newJobId()).not.toBe(newJobId());
  });
});

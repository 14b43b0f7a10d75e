/** Jobs, which send one command to many devices: their counts, their words, and the request of a form. Pure. */

import type { CommandJobDetails, CommandJobDryRun, CommandJobTarget, DifferingUnit } from "../wire/api";
import type { NewJob } from "./api";
import { type ParameterValue, STATE_TEXTS } from "./commands";
import { count, plural } from "./number_format";

export type JobStateName = CommandJobDetails["state"];
export type TargetStateName = CommandJobTarget["state"];

export const JOB_TEXTS: Record<JobStateName, string> = {
  pending: "Not begun",
  running: "Running",
  completed: "Completed",
  stopped: "Stopped",
  cancelled: "Cancelled",
};

export const TARGET_TEXTS: Record<TargetStateName, string> = {
  ...STATE_TEXTS,
  pending: "Not sent",
  refused: "Refused",
};

/** Groups of states that a bar shows with one colour. */
type JobPart = "succeeded" | "open" | "failed" | "refused" | "unsent";

/** Every state of a target in the order of a bar. A cancelled command was never sent. */
const PARTS: [TargetStateName, JobPart, string][] = [
  ["succeeded", "succeeded", "succeeded"],
  ["received", "open", "received"],
  ["sent", "open", "sent"],
  ["queued", "open", "queued"],
  ["failed", "failed", "failed"],
  ["rejected", "failed", "rejected"],
  ["timed_out", "failed", "without a result in time"],
  ["expired", "failed", "expired"],
  ["refused", "refused", "refused"],
  ["cancelled", "unsent", "cancelled"],
  ["pending", "unsent", "not sent"],
];

/** Targets that the page lists: those that ended without success, those that have not ended, or all. */
export type TargetFilter = "failed" | "open" | "all";

export const TARGET_FILTERS: Record<TargetFilter, { text: string; states: TargetStateName[] }> = {
  failed: {
    text: "Without success",
    states: ["failed", "rejected", "timed_out", "expired", "refused", "cancelled"],
  },
  open: { text: "Not ended", states: ["pending", "queued", "sent", "received"] },
  all: { text: "All", states: [] },
};

export function isOpenJob({ state }: Pick<CommandJobDetails, "state">): boolean {
  return state === "pending" || state === "running";
}

/** Return whether a job was sent to each target, and not each of them succeeded. */
export function isPartial({
  state,
  counts,
  targets,
}: Pick<CommandJobDetails, "state" | "counts" | "targets">): boolean {
  return state === "completed" && counts.succeeded < targets;
}

/** Return the state of a job in words: Completed, 3 of 5 succeeded. */
export function jobStateText(job: Pick<CommandJobDetails, "state" | "counts" | "targets">): string {
  const text = JOB_TEXTS[job.state];
  return isPartial(job) ? `${text}, ${count(job.counts.succeeded)} of ${count(job.targets)} succeeded` : text;
}

/** A number of targets in one state. */
export interface JobCount {
  state: TargetStateName;
  part: JobPart;
  amount: number;
  /** As in: 3 rejected. */
  text: string;
}

/** Return the states that targets are in, with their numbers, in the order of the bar. */
export function countsOf(job: Pick<CommandJobDetails, "counts" | "state">): JobCount[] {
  return PARTS.map(([state, part, text]) => ({
    state,
    part,
    amount: job.counts[state],
    text: `${count(job.counts[state])} ${text}${state === "pending" && isOpenJob(job) ? " yet" : ""}`,
  })).filter(({ amount }) => amount > 0);
}

/** Return the segments of the bar: one for each group of states that targets are in. */
export function segmentsOf(job: Pick<CommandJobDetails, "counts" | "state">): { part: JobPart; amount: number }[] {
  const amounts = new Map<JobPart, number>();
  for (const { part, amount } of countsOf(job)) amounts.set(part, (amounts.get(part) ?? 0) + amount);
  return [...amounts].map(([part, amount]) => ({ part, amount }));
}

/** Return which batch is sent, or how many batches there were, and their size. */
export function batchText(job: CommandJobDetails): { batch: string; size: string } {
  return { batch: currentText(job), size: `of ${plural(Math.min(job.batch_size, job.targets), "device")}` };
}

function currentText(job: CommandJobDetails): string {
  if (!isOpenJob(job)) return count(job.batches);
  return `${count(currentBatch(job))} of ${count(job.batches)}`;
}

function currentBatch({ ended, batch_size, batches }: CommandJobDetails): number {
  return Math.min(batches, Math.floor(ended / batch_size) + 1);
}

/** Return at which share of failures a job stops. */
export function stopText(stop_share: number | null): string {
  if (stop_share === null) return "never";
  if (stop_share === 0) return "after the first failure";
  return `at ${count(Math.round(stop_share * 100))}% without success`;
}

/** Return what a cancellation does, as sentences. */
export function cancelText({ counts }: CommandJobDetails): string {
  const onTheWay = counts.sent + counts.received;
  return [
    counts.pending > 0 ? `${plural(counts.pending, "device gets", "devices get")} no command.` : "",
    counts.queued > 0
      ? `${plural(counts.queued, "command that was not sent is", "commands that were not sent are")} taken back.`
      : "",
    onTheWay > 0 ? `${plural(onTheWay, "command that was sent continues", "commands that were sent continue")}.` : "",
  ]
    .filter((text) => text !== "")
    .join(" ");
}

/**
 * Return how many targets must have ended before an answer is news: more than these. A job of thousands is asked for
 * about a hundred times, and at the end of each batch.
 */
export function seenTargets(job: CommandJobDetails): number {
  const batchEnd = Math.min(currentBatch(job) * job.batch_size, job.targets);
  return Math.max(job.ended, Math.min(job.ended + Math.floor(job.targets / 100), batchEnd - 1));
}

/** Return the jobs with newer versions of some of them, newest first. Answers may arrive in another order. */
export function mergeJobs(known: CommandJobDetails[], answered: CommandJobDetails[]): CommandJobDetails[] {
  const merged = new Map(known.map((job) => [job.id, job]));
  for (const job of answered) merged.set(job.id, newerJob(merged.get(job.id), job));
  return [...merged.values()].sort((a, b) => b.created_ns - a.created_ns);
}

/** Return the newer version of a job: the one with more states, or with more targets that have ended. */
export function newerJob(known: CommandJobDetails | undefined, answered: CommandJobDetails): CommandJobDetails {
  if (known === undefined || known.states.length < answered.states.length) return answered;
  return known.states.length === answered.states.length && known.ended <= answered.ended ? answered : known;
}

/** Return a reason for a device without its id, which stands beside it. */
export function withoutDevice(device: string, message: string): string {
  return message.startsWith(`${device} `) ? `the device${message.slice(device.length)}` : message;
}

/** Devices that the hub would refuse for one reason. */
interface RefusedDevices {
  reason: string;
  devices: string[];
}

/** Return the reasons of a dry run, those of the most devices first. */
export function refusalsOf({ devices }: CommandJobDryRun): RefusedDevices[] {
  const reasons = new Map<string, string[]>();
  for (const { device, code, message } of devices) {
    if (code === "") continue;
    const reason = withoutDevice(device, message);
    const refused = reasons.get(reason);
    if (refused === undefined) reasons.set(reason, [device]);
    else refused.push(device);
  }
  return [...reasons]
    .map(([reason, refused]) => ({ reason, devices: refused }))
    .sort((a, b) => b.devices.length - a.devices.length);
}

/**
 * Return the batch after which the refused devices of a dry run alone stop the job, although all others succeed; null if
 * it continues to its end. The hub compares the share between two batches.
 */
export function stoppingBatch({ devices, batches }: CommandJobDryRun, stop_share: number | null): number | null {
  if (stop_share === null) return null;
  let refused = 0;
  for (const [position, { batch, code }] of devices.entries()) {
    if (code !== "") refused++;
    const isBatchEnd = devices[position + 1]?.batch !== batch;
    if (isBatchEnd && batch < batches && refused > 0 && refused >= stop_share * (position + 1)) return batch;
  }
  return null;
}

/** The settings of the form, as texts of its controls. */
export interface JobOptions {
  batch_size: string;
  /** A share from 0 to 1, or "never". */
  stop: string;
  isQueued: boolean;
  ttl_s: string;
  timeout_s: string;
}

export const STOP_SHARES = [
  ["0", "the first failure"],
  ["0.1", "10% without success"],
  ["0.2", "20% without success"],
  ["0.5", "50% without success"],
  ["never", "never"],
] as const;

/** The defaults of the API. */
export const DEFAULT_OPTIONS: JobOptions = {
  batch_size: "10",
  stop: "0.2",
  isQueued: false,
  ttl_s: "86400",
  timeout_s: "10",
};

const MAX_BATCH = 1000;

/** Return the options of a job. */
export function optionsOf({ batch_size, stop_share, mode, ttl_s, timeout_ms }: CommandJobDetails): JobOptions {
  return {
    batch_size: String(batch_size),
    stop: stop_share === null ? "never" : String(stop_share),
    isQueued: mode === "queue",
    ttl_s: ttl_s === null ? DEFAULT_OPTIONS.ttl_s : String(ttl_s),
    timeout_s: String(timeout_ms / 1000),
  };
}

/**
 * Return how many devices of an ended job did not succeed, to send to them again; 0 if they are as many as all of them,
 * or more than 100: a request line has 8 KiB, and 100 ids of 64 characters fit.
 */
export function repeatable(job: Pick<CommandJobDetails, "state" | "counts" | "targets">): number {
  const devices = job.targets - job.counts.succeeded;
  return !isOpenJob(job) && devices < job.targets && devices <= MAX_REPEATED ? devices : 0;
}

export const MAX_REPEATED = 100;

/** Every state of the targets of an ended job that did not succeed. */
export const UNSUCCESSFUL: TargetStateName[] = PARTS.map(([state]) => state).filter((state) => state !== "succeeded");

/** Return why a number of devices is no batch; null if it is one. */
export function batchProblem(text: string): string | null {
  const isBatch = /^\d{1,4}$/.test(text.trim()) && Number(text) >= 1 && Number(text) <= MAX_BATCH;
  return isBatch ? null : `Enter a number from 1 to ${count(MAX_BATCH)}.`;
}

/** Return the request of a form, without its id. */
export function jobOf(
  to: string[],
  name: string,
  parameters: Record<string, ParameterValue>,
  { batch_size, stop, isQueued, ttl_s, timeout_s }: JobOptions,
): NewJob {
  return {
    to,
    name,
    parameters,
    mode: isQueued ? "queue" : "call",
    timeout_s: Number(timeout_s),
    ...(isQueued && { ttl_s: Number(ttl_s) }),
    batch_size: Number(batch_size),
    stop_share: stop === "never" ? null : Number(stop),
    // The page shows the dry run, and asks before each job.
    confirmed: true,
  };
}

/** Return which devices take a parameter in another unit than most of them, as a sentence. */
export function unitText({ parameter, unit, expected, devices }: DifferingUnit, targets: number): string {
  const number = `${count(devices)} of ${plural(targets, "device")}`;
  const given = unit === "" ? "without a unit" : `in ${unit}`;
  return `${number} ${devices === 1 ? "takes" : "take"} ${parameter} ${given} instead of ${expected || "no unit"}.`;
}

/** Return the options in a line. */
export function optionsText({ batch_size, stop, isQueued }: JobOptions): string {
  const share = stop === "never" ? null : Number(stop);
  const offline = isQueued ? "wait for offline devices" : "offline devices are refused";
  return `batches of ${batch_size}, stops ${stopText(share)}, ${offline}`;
}

/** Return a new id for a request. A repeated request with its id is the same job. */
export function newJobId(): string {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

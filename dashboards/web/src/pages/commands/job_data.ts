/** Jobs as the hub has them: the list, and one job with its devices. */

import { type Signal, signal } from "@preact/signals";
import { ApiError, cancelJob, fetchJob, fetchJobs, fetchJobTargets, waitForJob } from "../../data/api";
import {
  DEFAULT_OPTIONS,
  isOpenJob,
  type JobOptions,
  MAX_REPEATED,
  mergeJobs,
  newerJob,
  optionsOf,
  seenTargets,
  TARGET_FILTERS,
  type TargetFilter,
  UNSUCCESSFUL,
} from "../../data/command_jobs";
import type { ParameterValue } from "../../data/commands";
import { Follower, WAIT_S, type Waiting } from "../../data/follower";
import type { CommandJobDetails, CommandJobTarget } from "../../wire/api";

/** Jobs of one answer. */
const LIMIT = 20;
/** Devices of a job that are shown first, and at most: the command line has all of them. */
const TARGETS = 100;
export const MAX_TARGETS = 1000;

/** Return the request that waits for the progress of a job; null if it has ended. */
function progressOf(job: CommandJobDetails | null | undefined): Waiting<CommandJobDetails> | null {
  if (job === null || job === undefined || !isOpenJob(job)) return null;
  const seen = seenTargets(job);
  return {
    key: job.id,
    request: (signal) => waitForJob(job.id, { wait_s: WAIT_S, seen }, signal),
    isNews: (answer) => answer.ended > seen || answer.state !== job.state,
  };
}

/** Initial content of the form of a new job. */
export interface JobDraft {
  to: string[];
  name: string;
  parameters: Record<string, ParameterValue>;
  options: JobOptions;
}

/** Return the draft that the address of the form describes: a selection and a command, or a job to repeat. Throws ApiError. */
export async function draftOf(query: URLSearchParams): Promise<JobDraft> {
  const from = query.get("from");
  if (from === null)
    return { to: query.getAll("to"), name: query.get("name") ?? "", parameters: {}, options: DEFAULT_OPTIONS };
  const job = await fetchJob(encodeURIComponent(from));
  const { name, parameters } = job as { name: string; parameters: JobDraft["parameters"] };
  const to = query.get("only") === "unsuccessful" ? await unsuccessful(job.id) : job.to;
  return { to, name, parameters, options: optionsOf(job) };
}

async function unsuccessful(id: string): Promise<string[]> {
  const { targets, next } = await fetchJobTargets(id, UNSUCCESSFUL, MAX_REPEATED);
  if (next === null) return targets.map(({ device }) => device);
  throw new Error(`More than ${MAX_REPEATED} devices did not succeed. Select them by id and tag.`);
}

/** The newest jobs. The newest one that runs is followed, others are polled. */
export class JobList {
  /** Newest first; null until the hub has answered. The hub keeps 100 ended jobs and 16 open ones. */
  readonly jobs: Signal<CommandJobDetails[] | null> = signal(null);
  /** Cursor of older jobs; null if there are none. */
  readonly next: Signal<string | null> = signal(null);
  readonly follower = new Follower<CommandJobDetails>({
    load: () => this.load(),
    next: () => progressOf(this.jobs.peek()?.find(isOpenJob)),
    receive: (answer) => this.add([answer]),
  });

  /** Load the jobs before those that are known. Throws ApiError. */
  async loadOlder(): Promise<void> {
    const page = await fetchJobs(LIMIT, this.next.peek());
    this.next.value = page.next;
    this.add(page.jobs);
  }

  private async load(): Promise<void> {
    const page = await fetchJobs(LIMIT);
    const known = new Set(this.jobs.peek()?.map(({ id }) => id));
    // Without one in common there are jobs between these and the known ones.
    if (!page.jobs.some(({ id }) => known.has(id))) {
      this.jobs.value = [];
      this.next.value = page.next;
    }
    this.add(page.jobs);
  }

  private add(answered: CommandJobDetails[]): void {
    this.jobs.value = mergeJobs(this.jobs.peek() ?? [], answered);
  }
}

/** One job, and its devices in the states of the chosen filter. */
export class JobData {
  readonly job: Signal<CommandJobDetails | null> = signal(null);
  /** The hub does not know the job. */
  readonly isMissing = signal(false);
  readonly filter: Signal<TargetFilter> = signal("failed");
  /** In the order of batches; null until the hub has answered. */
  readonly targets: Signal<CommandJobTarget[] | null> = signal(null);
  readonly hasMore = signal(false);
  readonly follower: Follower<CommandJobDetails>;
  private readonly id: string;
  private limit = TARGETS;

  constructor(id: string) {
    this.id = id;
    this.follower = new Follower({
      load: () => this.load(),
      next: () => progressOf(this.job.peek()),
      receive: (answer) => void this.show(answer).catch(() => undefined), // the poller asks again
    });
  }

  /** End the job. Throws ApiError. */
  async cancel(): Promise<void> {
    await this.show(await cancelJob(this.id));
  }

  /** Show devices in other states. Throws ApiError. */
  async choose(filter: TargetFilter): Promise<void> {
    this.filter.value = filter;
    this.limit = TARGETS;
    this.targets.value = null;
    await this.loadTargets();
  }

  /** Show as many devices as the page does at most. Throws ApiError. */
  async showMore(): Promise<void> {
    this.limit = MAX_TARGETS;
    await this.loadTargets();
  }

  private async load(): Promise<void> {
    try {
      await this.show(await fetchJob(this.id));
    } catch (error) {
      this.isMissing.value = error instanceof ApiError && error.status === 404;
      throw error;
    }
  }

  private async show(answer: CommandJobDetails): Promise<void> {
    this.job.value = newerJob(this.job.peek() ?? undefined, answer);
    await this.loadTargets();
  }

  private async loadTargets(): Promise<void> {
    const filter = this.filter.peek();
    const page = await fetchJobTargets(this.id, TARGET_FILTERS[filter].states, this.limit);
    if (filter !== this.filter.peek()) return;
    this.targets.value = page.targets;
    this.hasMore.value = page.next !== null;
  }
}

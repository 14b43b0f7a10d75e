import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { draftOf, JobData, JobList } from "../../src/pages/commands/job_data";
import type { CommandJobDetails, CommandJobTarget } from "../../src/wire/api";

const idOf = (number: number) => number.toString(16).padStart(32, "0");

function job(number: number, changed: Partial<CommandJobDetails> = {}): CommandJobDetails {
  const states: CommandJobDetails["states"] = [{ state: "pending", time_ns: number, code: "", message: "" }];
  const job = { id: idOf(number), created_ns: number, state: "completed", targets: 4, batch_size: 4, batches: 1 };
  return { ...job, ended: 4, states, ...changed } as CommandJobDetails;
}

/** Fake hub with these jobs, newest first. A request that waits stays open until `answer` is called. */
class FakeHub {
  readonly asked: string[] = [];
  jobs: CommandJobDetails[];
  targets: CommandJobTarget[] = [];
  answer: (() => void) | null = null;

  constructor(...numbers: number[]) {
    this.jobs = numbers.map((number) => job(number));
    vi.stubGlobal("fetch", (input: string) => this.respond(new URL(input, "http://hub")));
  }

  private async respond({ pathname, searchParams }: URL): Promise<Response> {
    this.asked.push(`${pathname}?${searchParams}`);
    const [, id, inner] = /command-jobs\/([0-9a-f]+)(\/\w+)?/.exec(pathname) ?? [];
    if (inner === "/targets") {
      const states = searchParams.getAll("state");
      const fitting = this.targets.filter(({ state }) => states.length === 0 || states.includes(state));
      const limit = Number(searchParams.get("limit"));
      return Response.json({ targets: fitting.slice(0, limit), next: fitting.length > limit ? "more" : null });
    }
    if (searchParams.has("wait_s"))
      await new Promise<void>((resolve) => {
        this.answer = resolve;
      });
    if (id !== undefined) {
      const found = this.jobs.find((known) => known.id === id);
      return found === undefined ? Response.json({ detail: "no job" }, { status: 404 }) : Response.json(found);
    }
    const before = Number(searchParams.get("cursor") ?? Number.MAX_SAFE_INTEGER);
    const page = this.jobs.filter(({ created_ns }) => created_ns < before).slice(0, 20);
    const isEnd = page.at(-1)?.id === this.jobs.at(-1)?.id;
    return Response.json({ jobs: page, next: isEnd ? null : String(page.at(-1)?.created_ns) });
  }
}

const settle = () => vi.advanceTimersByTimeAsync(0);
const downTo = (newest: number, oldest: number) =>
  Array.from({ length: newest - oldest + 1 }, (_, index) => newest - index);

let followers: { close: () => void }[] = [];
beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("document", {
    visibilityState: "visible",
    addEventListener: () => undefined,
    removeEventListener: () => undefined,
  });
});
afterEach(() => {
  for (const follower of followers) follower.close();
  followers = [];
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

async function open<T extends JobList | JobData>(created: T): Promise<T> {
  followers.push(created.follower);
  await settle();
  return created;
}

describe("JobList", () => {
  const ids = (list: JobList) => list.jobs.value?.map(({ created_ns }) => created_ns);

  it("loads older jobs, and keeps them while newer ones are added", async () => {
    const hub = new FakeHub(...downTo(45, 1));
    const list = await open(new JobList());
    expect(ids(list)).toEqual(downTo(45, 26));
    await list.loadOlder();
    expect(ids(list)).toEqual(downTo(45, 6));
    hub.jobs.unshift(job(46));
    list.follower.refresh();
    await settle();
    expect(ids(list)).toEqual(downTo(46, 6));
    await list.loadOlder();
    expect([ids(list), list.next.value]).toEqual([downTo(46, 1), null]);
  });

  it("begins again where jobs between two answers are missing", async () => {
    const hub = new FakeHub(1);
    const list = await open(new JobList());
    hub.jobs = downTo(30, 1).map((number) => job(number));
    list.follower.refresh();
    await settle();
    expect(ids(list)).toEqual(downTo(30, 11));
    expect(list.next.value).toBe("11");
  });

  it("follows the newest job that runs", async () => {
    const hub = new FakeHub(3, 2, 1);
    hub.jobs[1] = job(2, { state: "running", ended: 1 });
    const list = await open(new JobList());
    expect(hub.asked.at(-1)).toBe(`/api/v1/command-jobs/${idOf(2)}?wait_s=25&seen=1`);
    hub.jobs[1] = job(2, { state: "running", ended: 3 });
    hub.answer?.();
    await settle();
    expect(list.jobs.value?.[1].ended).toBe(3);
    expect(hub.asked.at(-1)).toContain("seen=3");
  });
});

const target = (state: CommandJobTarget["state"], number = 0): CommandJobTarget => {
  return { device: `d-${number}`, batch: 1, state, command: "", code: "", message: "" };
};

describe("the draft of a job", () => {
  const draft = (query: string) => draftOf(new URLSearchParams(query));

  it("is the selection of the address", async () => {
    expect(await draft("to=pump-*&to=site=north&name=stop")).toMatchObject({
      to: ["pump-*", "site=north"],
      name: "stop",
    });
  });

  it("repeats a job with its values and options, also for the devices without success", async () => {
    const hub = new FakeHub();
    const parameters = { speed: 3 } as unknown as CommandJobDetails["parameters"];
    const made = { to: ["pump-*"], name: "set_speed", parameters, timeout_ms: 60_000, ttl_s: null };
    hub.jobs = [job(1, { ...made, mode: "call", stop_share: 0.5 })];
    hub.targets = [target("succeeded"), target("rejected", 1), target("pending", 2)];
    const repeated = await draft(`from=${idOf(1)}`);
    expect(repeated).toMatchObject({ to: ["pump-*"], name: "set_speed", parameters: { speed: 3 } });
    expect(repeated.options).toMatchObject({ batch_size: "4", stop: "0.5", isQueued: false, timeout_s: "60" });
    expect((await draft(`from=${idOf(1)}&only=unsuccessful`)).to).toEqual(["d-1", "d-2"]);
    hub.targets = Array.from({ length: 101 }, (_, index) => target("failed", index));
    await expect(draft(`from=${idOf(1)}&only=unsuccessful`)).rejects.toThrow("More than 100 devices");
    await expect(draft(`from=${idOf(9)}`)).rejects.toThrow("no job");
  });
});

describe("JobData", () => {
  const states = (data: JobData) => data.targets.value?.map(({ state }) => state);

  it("shows the devices without success, and others when they are chosen", async () => {
    const hub = new FakeHub(1);
    hub.targets = [target("succeeded"), target("rejected", 1), target("sent", 2)];
    const data = await open(new JobData(idOf(1)));
    expect(states(data)).toEqual(["rejected"]);
    const choosing = data.choose("open");
    expect(data.targets.value).toBe(null);
    await data.choose("all");
    await choosing;
    expect(states(data)).toEqual(["succeeded", "rejected", "sent"]);
  });

  it("shows more of them, and keeps as many while the job moves", async () => {
    const hub = new FakeHub(1);
    hub.targets = Array.from({ length: 150 }, (_, index) => target("failed", index));
    hub.jobs[0] = job(1, { state: "running", ended: 1 });
    const data = await open(new JobData(idOf(1)));
    expect([data.targets.value?.length, data.hasMore.value]).toEqual([100, true]);
    await data.showMore();
    expect([data.targets.value?.length, data.hasMore.value]).toEqual([150, false]);
    hub.jobs[0] = job(1, { state: "running", ended: 2 });
    hub.answer?.();
    await settle();
    expect([data.job.value?.ended, data.targets.value?.length]).toEqual([2, 150]);
  });

  it("knows that the hub has no such job", async () => {
    new FakeHub();
    const data = await open(new JobData(idOf(9)));
    expect([data.isMissing.value, data.job.value]).toEqual([true, null]);
  });
});

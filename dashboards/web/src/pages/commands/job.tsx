/** Page of a job: its progress, its states, and the devices that did not succeed. */

import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import {
  batchText,
  cancelText,
  isOpenJob,
  JOB_TEXTS,
  repeatable,
  stopText,
  TARGET_FILTERS,
  type TargetFilter,
  withoutDevice,
} from "../../data/command_jobs";
import { changesOf, parametersText } from "../../data/commands";
import { hub } from "../../data/hub";
import { count, plural } from "../../data/number_format";
import { dateTime, duration, millisecondsOf, now } from "../../data/time";
import { visible } from "../../data/visible_text";
import { CommandStateLabel, JobStateLabel, Steps } from "../../ui/command_state";
import {
  ActionProblem,
  Confirmation,
  type ConfirmationRequest,
  CopyableCommand,
  PageMessage,
  useActions,
} from "../../ui/controls";
import { devicePath, repeatedJobPath } from "../../ui/route";
import { asSentence } from "../../ui/status_text";
import type { CommandJobDetails, CommandJobTarget } from "../../wire/api";
import { JobData, MAX_TARGETS } from "./job_data";
import { Progress } from "./progress";

export function JobPage({ id }: { id: string }) {
  const [data, setData] = useState<JobData | null>(null);
  useEffect(() => {
    const created = new JobData(id);
    setData(created);
    return () => created.follower.close();
  }, [id]);
  const job = data?.job.value ?? null;
  if (data?.isMissing.value === true)
    return (
      <PageMessage title="Unknown job">
        The hub has no job with the id <code>{id}</code>. It keeps the newest 100 jobs that have ended, for 30 days.
      </PageMessage>
    );
  const problem = data?.follower.problem.value ?? null;
  return (
    <>
      {problem !== null && (
        <p class="problem jobs-problem" role="status">
          {asSentence(problem)} {job !== null && "This is the last answer."}
        </p>
      )}
      {data === null || job === null ? (
        <div class="box" aria-busy={problem === null} />
      ) : (
        <div class="job" data-testid="job" data-state={job.state}>
          <Head job={job} data={data} />
          <Targets job={job} data={data} />
          <section class="panel box">
            <h2>States</h2>
            <div class="job-states">
              <Steps steps={changesOf(job.states, JOB_TEXTS)} />
            </div>
          </section>
        </div>
      )}
    </>
  );
}

interface JobProps {
  job: CommandJobDetails;
  data: JobData;
}

function Head({ job, data }: JobProps) {
  const given = parametersText(job.parameters, undefined);
  const { batch, size } = batchText(job);
  const [confirmation, setConfirmation] = useState<ConfirmationRequest | null>(null);
  const { running, problem, run } = useActions();
  const cancel = () =>
    setConfirmation({
      text: `Cancel ${job.name} to ${plural(job.targets, "device")}?`,
      hint: cancelText(job),
      action: "Cancel the job",
      dismissal: "Continue it",
      onConfirm: () => void run(() => data.cancel()),
    });
  return (
    <section class="job-head box" aria-labelledby="job-title">
      <div class="job-title bar">
        <h1 id="job-title">
          <span class="mono">{job.name}</span> <span class="muted">{visible(given)}</span>
        </h1>
        <JobStateLabel job={job} />
        {isOpenJob(job) && hub.canOperate && (
          <button type="button" class="button" disabled={running} data-testid="cancel-job" onClick={cancel}>
            Cancel…
          </button>
        )}
        {!isOpenJob(job) && hub.canOperate && (
          <span class="job-actions row">
            {repeatable(job) > 0 && (
              <a class="button" href={repeatedJobPath(job.id, "unsuccessful")} data-testid="repeat-unsuccessful">
                Send again to the {count(repeatable(job))} without success
              </a>
            )}
            <a class="button" href={repeatedJobPath(job.id)} data-testid="repeat-job">
              Send again
            </a>
          </span>
        )}
      </div>
      {job.message !== "" && <p class="note">{asSentence(visible(job.message))}</p>}
      <Progress job={job} />
      <dl class="job-facts">
        <Fact name="To">
          {job.to.map((term) => (
            <span class="tag mono" key={term}>
              <span class="ellipsis">{visible(term)}</span>
            </span>
          ))}
        </Fact>
        <Fact name="Devices">{count(job.targets)}</Fact>
        <Fact name={isOpenJob(job) ? "Batch" : "Batches"}>
          {batch} <small class="muted">{size}</small>
        </Fact>
        <Fact name="Stops">{stopText(job.stop_share)}</Fact>
        <Fact name="Offline devices">{job.mode === "queue" ? "get it when they connect" : "are refused"}</Fact>
        <Fact name="Time for the result">{duration(job.timeout_ms)}</Fact>
        <Fact name="Nothing is sent after">{dateTime(millisecondsOf(job.deadline_ns), now.value, "minutes")}</Fact>
        <Fact name="Sent by">{job.operator}</Fact>
        <Fact name="Id">
          <span class="mono">{job.id}</span>
        </Fact>
      </dl>
      <ActionProblem problem={problem} effect="Nothing was cancelled." />
      {confirmation !== null && <Confirmation request={confirmation} close={() => setConfirmation(null)} />}
    </section>
  );
}

function Fact({ name, children }: { name: string; children: ComponentChildren }) {
  return (
    <div>
      <dt class="label">{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

function Targets({ job, data }: JobProps) {
  const { running, problem, run } = useActions();
  const targets = data.targets.value;
  const filter = data.filter.value;
  return (
    <section class="panel box" aria-labelledby="targets-title">
      <div class="job-targets-bar bar">
        <h2 id="targets-title">Devices</h2>
        <fieldset class="segments box" aria-label="Devices to show">
          {(Object.keys(TARGET_FILTERS) as TargetFilter[]).map((name) => (
            <button
              key={name}
              type="button"
              aria-pressed={name === filter}
              onClick={() => void run(() => data.choose(name))}
            >
              {TARGET_FILTERS[name].text}
            </button>
          ))}
        </fieldset>
      </div>
      <ActionProblem problem={problem} />
      {targets === null ? (
        <p class="note empty-note" aria-busy={problem === null} />
      ) : targets.length === 0 ? (
        <p class="note empty-note">{noneText(job, filter)}</p>
      ) : (
        <TargetTable targets={targets} isOpen={isOpenJob(job)} />
      )}
      {targets !== null && data.hasMore.value && (
        <div class="jobs-more">
          {targets.length < MAX_TARGETS ? (
            <button type="button" class="button" disabled={running} onClick={() => void run(() => data.showMore())}>
              More devices
            </button>
          ) : (
            <>
              <p class="note">These are the first {plural(targets.length, "device")}. All of them, as JSON:</p>
              <CopyableCommand text={`hub command jobs ${job.id} --json`} />
            </>
          )}
        </div>
      )}
    </section>
  );
}

function noneText(job: CommandJobDetails, filter: TargetFilter): string {
  if (filter === "open") return isOpenJob(job) ? "No device is open now." : "The command of each device has ended.";
  return job.counts.succeeded === job.targets
    ? `Each of the ${plural(job.targets, "device")} has executed it.`
    : "No device has ended without success so far.";
}

function TargetTable({ targets, isOpen }: { targets: CommandJobTarget[]; isOpen: boolean }) {
  return (
    <table class="job-targets">
      <thead>
        <tr>
          {["Device", "State", "Batch", "Reason"].map((name) => (
            <th key={name} scope="col">
              {name}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {targets.map(({ device, batch, state, code, message }) => (
          <tr key={device} data-testid="job-target" data-device={device} data-state={state}>
            <th scope="row">
              <a class="mono" href={devicePath(device)}>
                {device}
              </a>
            </th>
            <td>
              <CommandStateLabel state={state} />
            </td>
            <td class="number" data-label="Batch">
              {count(batch)}
            </td>
            <td class="job-reason">{reasonText({ device, state, code, message }, isOpen)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

type Reason = Pick<CommandJobTarget, "device" | "state" | "code" | "message">;

function reasonText({ device, state, code, message }: Reason, isOpen: boolean): string {
  if (state === "pending") return isOpen ? "Its batch has not begun." : "The job ended before its batch.";
  const reason = message === "" ? code.replaceAll("_", " ") : withoutDevice(device, message);
  return reason === "" ? "" : asSentence(visible(reason));
}

/** Commands page: the jobs, which send one command to many devices, newest first. */

import { useEffect, useState } from "preact/hooks";
import { parametersText } from "../../data/commands";
import { hub } from "../../data/hub";
import { plural } from "../../data/number_format";
import { dateTime, millisecondsOf, now } from "../../data/time";
import { visible } from "../../data/visible_text";
import { JobStateLabel } from "../../ui/command_state";
import { ActionProblem, CopyableCommand, useAction } from "../../ui/controls";
import { Icon } from "../../ui/icon";
import { jobPath } from "../../ui/route";
import { asSentence } from "../../ui/status_text";
import type { CommandJobDetails } from "../../wire/api";
import { withBase } from "../../wire/base_path";
import { JobList } from "./job_data";
import { Progress } from "./progress";

export function CommandsPage() {
  const [list, setList] = useState<JobList | null>(null);
  useEffect(() => {
    const created = new JobList();
    setList(created);
    return () => created.follower.close();
  }, []);
  const jobs = list?.jobs.value ?? null;
  const problem = list?.follower.problem.value ?? null;
  return (
    <>
      <h1 class="hidden-text">Commands</h1>
      <div class="jobs-bar bar">
        <p class="note">
          A job sends one command to many devices. A command to a single device is on the page of the device.
        </p>
        {hub.canOperate && (
          <a class="button" href={withBase("/commands/new")} data-testid="new-job-link">
            <Icon name="send" />
            Send a command
          </a>
        )}
      </div>
      {problem !== null && (
        <p class="problem jobs-problem" role="status">
          {asSentence(problem)} {jobs !== null && "The jobs are from the last answer."}
        </p>
      )}
      {list === null || jobs === null ? (
        <div class="box" aria-busy={problem === null} />
      ) : jobs.length === 0 ? (
        <NoJobs />
      ) : (
        <Jobs list={list} jobs={jobs} />
      )}
    </>
  );
}

function NoJobs() {
  return (
    <div class="message" data-testid="no-jobs">
      <h2>No jobs yet</h2>
      <p class="muted">
        A job sends one command to the devices that you select by id and tag, batch by batch, and stops when too many of
        them fail.{" "}
        {hub.canOperate
          ? "Send a command above, or on the command line:"
          : `Your role is ${hub.info.value?.role ?? "viewer"}: sending needs the role operator.`}
      </p>
      {hub.canOperate && <CopyableCommand text="hub command send --to 'vehicle-*' set_speed speed=50 --dry-run" />}
    </div>
  );
}

function Jobs({ list, jobs }: { list: JobList; jobs: CommandJobDetails[] }) {
  const { running, problem, run } = useAction(() => list.loadOlder());
  return (
    <section class="jobs box" aria-label="Jobs">
      <ol>
        {jobs.map((job) => (
          <JobRow key={job.id} job={job} />
        ))}
      </ol>
      {list.next.value !== null && (
        <div class="jobs-more">
          <button type="button" class="button" disabled={running} onClick={() => void run()}>
            Older jobs
          </button>
          <ActionProblem problem={problem} />
        </div>
      )}
    </section>
  );
}

function JobRow({ job }: { job: CommandJobDetails }) {
  const created_ms = millisecondsOf(job.created_ns);
  const given = parametersText(job.parameters, undefined);
  return (
    <li class="job-row" data-testid="job-row" data-state={job.state}>
      <JobStateLabel job={job} />
      <div class="job-what">
        <a class="job-link ellipsis" href={jobPath(job.id)} title={visible(`${job.name} ${given}`)}>
          <span class="mono">{job.name}</span> <span class="muted">{visible(given)}</span>
        </a>
        <span class="label ellipsis" title={visible(job.to.join(" "))}>
          {plural(job.targets, "device")}: <span class="mono">{visible(job.to.join(" "))}</span>
        </span>
      </div>
      <Progress job={job} />
      <div class="job-sender">
        <time dateTime={new Date(created_ms).toISOString()}>{dateTime(created_ms, now.value)}</time>
        <span class="label ellipsis" title={job.operator}>
          {job.operator}
        </span>
      </div>
    </li>
  );
}

/** States of commands and of jobs: labels with a shape and a word, and the list of states with their times. */

import { isPartial, type JobStateName, jobStateText, TARGET_TEXTS, type TargetStateName } from "../data/command_jobs";
import type { CommandStep } from "../data/commands";
import { dateTime, now } from "../data/time";
import { visible } from "../data/visible_text";
import type { CommandJobDetails } from "../wire/api";
import { DashedCircle, Icon, type IconName } from "./icon";
import { asSentence } from "./status_text";

const ICONS: Partial<Record<Look, IconName>> = {
  succeeded: "done",
  completed: "done",
  partial: "warning",
  failed: "warning",
  rejected: "warning",
  refused: "warning",
  stopped: "warning",
  timed_out: "range",
  expired: "range",
  cancelled: "close",
};

interface LabelProps {
  state: TargetStateName;
  testId?: string;
}

/** State of a command, or of a device of a job that has none. */
export function CommandStateLabel({ state, testId = "command-state" }: LabelProps) {
  return <StateLabel state={state} look={state} text={TARGET_TEXTS[state]} testId={testId} />;
}

export function JobStateLabel({ job }: { job: CommandJobDetails }) {
  const look = isPartial(job) ? "partial" : job.state;
  return <StateLabel state={job.state} look={look} text={jobStateText(job)} testId="job-state" />;
}

/** State as it looks: a completed job is `partial` if not every target succeeded. */
type Look = TargetStateName | JobStateName | "partial";

interface StateLabelProps {
  state: TargetStateName | JobStateName;
  look: Look;
  text: string;
  testId: string;
}

function StateLabel({ state, look, text, testId }: StateLabelProps) {
  const icon = ICONS[look];
  return (
    <span class={`command-state row ${look}`} data-testid={testId} data-state={state}>
      {icon === undefined ? <DashedCircle /> : <Icon name={icon} />}
      {text}
    </span>
  );
}

/** The states with their times and reasons. */
export function Steps({ steps }: { steps: CommandStep[] }) {
  return (
    <ol class="command-steps">
      {steps.map(({ text, time_ms, after, reason }) => (
        <li key={`${text} ${time_ms}`}>
          <span>{text}</span>
          <time class="muted number" dateTime={new Date(time_ms).toISOString()}>
            {after === "" ? dateTime(time_ms, now.value) : after}
          </time>
          {reason !== "" && <span class="detail muted">{asSentence(visible(reason))}</span>}
        </li>
      ))}
    </ol>
  );
}

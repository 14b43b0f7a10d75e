/** States of commands and of jobs: labels with a shape and a word, and the list of states with their times. */

import { JOB_TEXTS, type JobStateName, TARGET_TEXTS, type TargetStateName } from "../data/command_jobs";
import type { CommandStep } from "../data/commands";
import { dateTime, now } from "../data/time";
import { visible } from "../data/visible_text";
import { DashedCircle, Icon, type IconName } from "./icon";
import { asSentence } from "./status_text";

const ICONS: Partial<Record<TargetStateName | JobStateName, IconName>> = {
  succeeded: "done",
  completed: "done",
  failed: "warning",
  rejected: "warning",
  refused: "warning",
  stopped: "warning",
  timed_out: "range",
  expired: "range",
  cancelled: "close",
};

interface LabelProps<S> {
  state: S;
  testId?: string;
}

/** State of a command, or of a device of a job that has none. */
export function CommandStateLabel({ state, testId = "command-state" }: LabelProps<TargetStateName>) {
  return <StateLabel state={state} text={TARGET_TEXTS[state]} testId={testId} />;
}

export function JobStateLabel({ state }: LabelProps<JobStateName>) {
  return <StateLabel state={state} text={JOB_TEXTS[state]} testId="job-state" />;
}

function StateLabel(props: { state: TargetStateName | JobStateName; text: string; testId: string }) {
  const { state, text, testId } = props;
  const icon = ICONS[state];
  return (
    <span class={`command-state row ${state}`} data-testid={testId} data-state={state}>
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

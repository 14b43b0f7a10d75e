/** Page that sends a command to many devices: the selection, the command, the options, and what a dry run shows. */

import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, createJob, errorText, fetchCommonCommands, type NewJob, tryJob } from "../../data/api";
import {
  batchProblem,
  type JobOptions,
  jobOf,
  newJobId,
  optionsText,
  refusalsOf,
  STOP_SHARES,
  stoppingBatch,
  unitText,
} from "../../data/command_jobs";
import { parametersText, TIMEOUTS, TTLS, withoutDefault } from "../../data/commands";
import { hub } from "../../data/hub";
import { count, plural } from "../../data/number_format";
import { Poller } from "../../data/poller";
import { duration } from "../../data/time";
import { visible } from "../../data/visible_text";
import {
  ActionProblem,
  Confirmation,
  type ConfirmationRequest,
  Field,
  PageMessage,
  SelectField,
  Step,
  useActions,
} from "../../ui/controls";
import { Icon } from "../../ui/icon";
import { ParameterFields, useParameterForm } from "../../ui/parameter_form";
import { jobPath, navigate, newJobPath } from "../../ui/route";
import { asSentence } from "../../ui/status_text";
import type { CommandJobDryRun, CommonCommand, CommonCommands } from "../../wire/api";
import { draftOf, type JobDraft } from "./job_data";
import { SelectionField, type WrittenSelection, writtenTerms } from "./selection_field";

/** The hub is asked for the commands of a selection after a person has paused for so long. */
const ASK_AFTER_MS = 250;
/** Devices connect, and declare other commands. */
const POLL_PERIOD_MS = 5000;
/** More commands are a list to select from. */
const MAX_CARDS = 6;
/** Reasons of refusals, and devices of each, that are shown. */
const MAX_REASONS = 5;
const MAX_REFUSED = 8;

export function NewJobPage() {
  if (hub.info.value === null) return <div class="box" aria-busy="true" />;
  if (!hub.canOperate)
    return (
      <PageMessage title="Only an operator sends commands" hasLink>
        Your role is {hub.info.value.role}. Sign in with a token of the role operator, which an admin creates on the
        page Tokens or with <code>hub token create --role operator</code>.
      </PageMessage>
    );
  return <DraftedGuide />;
}

/** The form, when what it contains at first is known. */
function DraftedGuide() {
  const [query] = useState(() => new URLSearchParams(window.location.search));
  const [draft, setDraft] = useState<JobDraft | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  useEffect(() => {
    draftOf(query).then(setDraft, (error: unknown) => setProblem(errorText(error)));
  }, [query]);
  if (problem !== null)
    return (
      <PageMessage title="The job cannot be repeated">
        {asSentence(problem)} <a href={newJobPath([])}>Begin with an empty form</a>
      </PageMessage>
    );
  return draft === null ? <div class="box" aria-busy="true" /> : <SendGuide draft={draft} />;
}

function SendGuide({ draft }: { draft: JobDraft }) {
  const [selection, setSelection] = useState<WrittenSelection>({ terms: draft.to, text: "" });
  const [chosen, setChosen] = useState(draft.name);
  const to = writtenTerms(selection);
  const { common, isCurrent, problem } = useCommonCommands(to);
  const commands = common?.commands ?? [];
  const entry = commands.find(({ command }) => command.name === chosen) ?? (commands.length === 1 ? commands[0] : null);
  return (
    <section class="guide job-guide box" data-testid="new-job">
      <h1>Send a command to many devices</h1>
      <p>The devices get it batch by batch. Nothing is sent before you have seen which devices they are.</p>
      <ol>
        <Step number={1} title="To">
          <SelectionField selection={selection} change={setSelection}>
            {to.length === 0
              ? "Device ids, with * for any run of characters, and tags. A device needs one of the ids, and one value of each tag."
              : isCurrent
                ? matchText(common, problem)
                : "…"}
          </SelectionField>
        </Step>
        <Step number={2} title="Command">
          {common === null || common.targets === 0 ? (
            <p>The commands of the selected devices appear here.</p>
          ) : commands.length === 0 ? (
            <p>None of these devices declares a command. Their agents declare them: see docs/commands.md.</p>
          ) : (
            <Chooser common={common} chosen={entry?.command.name ?? ""} choose={setChosen} />
          )}
        </Step>
        {entry !== null && common !== null && (
          <JobForm
            key={`${entry.command.name} ${JSON.stringify(entry.command.parameters)}`}
            to={to}
            entry={entry}
            targets={common.targets}
            draft={draft}
          />
        )}
      </ol>
    </section>
  );
}

function matchText(common: CommonCommands | null, problem: string | null): string {
  if (problem !== null) return asSentence(problem);
  if (common === null || common.targets === 0) return "No device in service matches.";
  return `${plural(common.targets, "device matches", "devices match")}.`;
}

/** Answer of the hub about a selection. */
interface SelectionAnswer {
  key: string;
  common: CommonCommands | null;
  problem: string | null;
}

/** Return the last answer about the selected devices, and whether it is that to this selection. */
function useCommonCommands(to: string[]): SelectionAnswer & { isCurrent: boolean } {
  const key = JSON.stringify(to);
  const [answer, setAnswer] = useState<SelectionAnswer>({ key: "", common: null, problem: null });
  useEffect(() => {
    const abort = new AbortController();
    const ask = async () => {
      try {
        const common = to.length === 0 ? null : await fetchCommonCommands(to, abort.signal);
        if (!abort.signal.aborted) setAnswer({ key, common, problem: null });
      } catch (error) {
        // The form stays while the hub does not respond.
        if (!abort.signal.aborted)
          setAnswer((last) => ({ key, common: last.key === key ? last.common : null, problem: errorText(error) }));
        throw error;
      }
    };
    const poller = new Poller(ask, POLL_PERIOD_MS);
    let stop = () => {};
    const timer = setTimeout(() => {
      stop = poller.start();
    }, ASK_AFTER_MS);
    return () => {
      clearTimeout(timer);
      stop();
      abort.abort();
    };
  }, [key]);
  return { ...answer, isCurrent: answer.key === key };
}

interface ChooserProps {
  common: CommonCommands;
  chosen: string;
  choose: (name: string) => void;
}

function Chooser({ common, chosen, choose }: ChooserProps) {
  const share = ({ devices }: CommonCommand) =>
    devices === common.targets ? "all of them" : `${count(devices)} of ${plural(common.targets, "device")}`;
  if (common.commands.length > MAX_CARDS)
    return (
      <SelectField
        name="Command"
        testId="job-command"
        value={chosen}
        options={[
          ...(chosen === "" ? [["", "Choose…"] as const] : []),
          ...common.commands.map((entry) => [entry.command.name, `${entry.command.name} (${share(entry)})`] as const),
        ]}
        change={choose}
      />
    );
  return (
    <div class="ways" role="radiogroup" aria-label="Command">
      {common.commands.map((entry) => (
        <label class="way box" key={entry.command.name} data-testid="job-command">
          <input
            type="radio"
            name="command"
            checked={entry.command.name === chosen}
            onChange={() => choose(entry.command.name)}
          />
          <strong class="mono">{entry.command.name}</strong>
          <span class="note">{share(entry)}</span>
          {entry.command.description !== "" && <span class="note">{asSentence(entry.command.description)}</span>}
        </label>
      ))}
    </div>
  );
}

interface FormProps {
  to: string[];
  entry: CommonCommand;
  targets: number;
  draft: JobDraft;
}

/** Values of the chosen command, options, dry run and sending: the steps 2 to 4. */
function JobForm({ to, entry, targets, draft }: FormProps) {
  const { command, devices, differing, units } = entry;
  const [options, setOptions] = useState<JobOptions>(draft.options);
  const [tried, setTried] = useState<{ key: string; found: CommandJobDryRun } | null>(null);
  const [confirmation, setConfirmation] = useState<ConfirmationRequest | null>(null);
  const sent = useRef({ key: "", id: "" });
  const { running, problem, run, dismiss } = useActions();
  const form = useParameterForm(
    command.parameters.map(withoutDefault),
    () => problem !== null && dismiss(),
    command.name === draft.name ? draft.parameters : {},
  );
  const job = jobOf(to, command.name, form.given, options);
  const key = JSON.stringify(job);
  const found = tried?.key === key ? tried.found : null;
  const check = () => {
    if (!form.check()) return;
    void run(async () => {
      const wrong = batchProblem(options.batch_size);
      if (wrong !== null) throw new Error(`Devices of a batch: ${wrong}`);
      setTried({ key, found: await tryJob(job) });
    });
  };
  const ask = (dryRun: CommandJobDryRun) =>
    setConfirmation({
      text: `Send ${command.name} to ${recipientsText(dryRun)}?`,
      hint: confirmationText(entry, parametersText(form.given, command), options),
      action: "Send",
      onConfirm: () => void run(() => send(job)),
    });
  /** A repeated attempt with the same content has the same id: it is the same job. */
  const send = async (request: NewJob) => {
    if (sent.current.key !== key) sent.current = { key, id: newJobId() };
    try {
      navigate(jobPath((await createJob({ ...request, id: sent.current.id })).id));
    } catch (error) {
      throw explained(error);
    }
  };
  return (
    <>
      <li class="job-values">
        <div>
          {devices < targets && (
            <p>{plural(targets - devices, "selected device does", "selected devices do")} not declare it.</p>
          )}
          {differing > 0 && (
            <p class="row job-warning">
              <Icon name="warning" />
              {plural(differing, "device declares", "devices declare")} other parameters. The dry run shows which of
              them refuse these values.
            </p>
          )}
          {units.map((unit) => (
            <p class="row job-warning" key={`${unit.parameter} ${unit.unit}`}>
              <Icon name="warning" />
              {visible(unitText(unit, targets))}
            </p>
          ))}
          <ParameterFields form={form} />
        </div>
      </li>
      <Step number={3} title="How">
        <Options options={options} change={setOptions} />
      </Step>
      <Step number={4} title="Dry run, then send">
        {found === null ? (
          <p>
            {tried === null ? "Which devices get it, and which would refuse it now:" : "Something has changed since:"}
          </p>
        ) : (
          <DryRun found={found} options={options} />
        )}
        <div class="bar job-actions">
          <button
            type="button"
            class={found === null ? "button primary" : "button"}
            disabled={running}
            data-testid="try-job"
            onClick={check}
          >
            {tried === null ? "Dry run" : "Repeat the dry run"}
          </button>
          {found !== null && found.refused < found.targets && (
            <button
              type="button"
              class="button primary"
              disabled={running}
              data-testid="send-job"
              onClick={() => ask(found)}
            >
              Send to {recipientsText(found)}…
            </button>
          )}
        </div>
        <ActionProblem problem={problem} />
      </Step>
      {confirmation !== null && <Confirmation request={confirmation} close={() => setConfirmation(null)} />}
    </>
  );
}

/** Return an error of sending with what it means for the devices. */
function explained(error: unknown): unknown {
  if (!(error instanceof ApiError)) return error;
  return new Error(
    error.status >= 400 && error.status < 500
      ? `Nothing was sent. ${asSentence(error.message)}`
      : `${asSentence(error.message)} It is not known whether the job has begun. Send it again: a repeated request is the same job.`,
  );
}

function recipientsText({ targets, refused }: CommandJobDryRun): string {
  return refused === 0 ? plural(targets, "device") : `${count(targets - refused)} of ${plural(targets, "device")}`;
}

function confirmationText({ command }: CommonCommand, given: string, options: JobOptions): string {
  return [
    command.description === "" ? "" : asSentence(command.description),
    given === "" ? "" : `With ${visible(given)}.`,
    asSentence(optionsText(options)),
  ]
    .filter((text) => text !== "")
    .join(" ");
}

type Choices = readonly (readonly [string, string])[];

/** Return the choices with the chosen one, which a repeated job may have from the command line. */
function withChosen(choices: Choices, chosen: string, text: string): Choices {
  return choices.some(([value]) => value === chosen) ? choices : [...choices, [chosen, text]];
}

interface OptionsProps {
  options: JobOptions;
  change: (options: JobOptions) => void;
}

function Options({ options, change }: OptionsProps) {
  const problem = batchProblem(options.batch_size);
  return (
    <details class="job-options">
      <summary>
        Options: <span class="muted">{optionsText(options)}</span>
      </summary>
      <div class="command-fields">
        <Field name="Devices of a batch" hint="The next batch begins when each of them has ended.">
          <input
            class="field"
            inputMode="numeric"
            autocomplete="off"
            data-testid="job-batch"
            aria-invalid={problem !== null}
            value={options.batch_size}
            onInput={(event) => change({ ...options, batch_size: event.currentTarget.value.trim() })}
          />
          {problem !== null && <small class="problem">{problem}</small>}
        </Field>
        <SelectField
          name="Stop after"
          hint="Compared between two batches. Refused devices count."
          testId="job-stop"
          value={options.stop}
          options={withChosen(STOP_SHARES, options.stop, `${Number(options.stop) * 100}% without success`)}
          change={(stop) => change({ ...options, stop })}
        />
        <SelectField
          name="Offline devices"
          hint={options.isQueued ? "A batch waits for its offline devices." : "They count as not succeeded."}
          testId="job-mode"
          value={options.isQueued ? "queue" : "call"}
          options={[
            ["call", "are refused"],
            ["queue", "get it when they connect"],
          ]}
          change={(mode) => change({ ...options, isQueued: mode === "queue" })}
        />
        {options.isQueued && (
          <SelectField
            name="Keep it for"
            testId="job-ttl"
            value={options.ttl_s}
            options={withChosen(TTLS, options.ttl_s, duration(Number(options.ttl_s) * 1000))}
            change={(ttl_s) => change({ ...options, ttl_s })}
          />
        )}
        <SelectField
          name="Time for the result"
          testId="job-timeout"
          value={options.timeout_s}
          options={withChosen(TIMEOUTS, options.timeout_s, duration(Number(options.timeout_s) * 1000))}
          change={(timeout_s) => change({ ...options, timeout_s })}
        />
      </div>
    </details>
  );
}

function DryRun({ found, options }: { found: CommandJobDryRun; options: JobOptions }) {
  const refusals = refusalsOf(found);
  const stopping = stoppingBatch(found, options.stop === "never" ? null : Number(options.stop));
  return (
    <div class="dry-run" data-testid="dry-run">
      <p role="status">
        {plural(found.targets, "device")} in {plural(found.batches, "batch", "batches")}.{" "}
        {found.refused === 0
          ? "The hub refuses none of them now."
          : `The hub would refuse ${count(found.refused)} now:`}
      </p>
      {refusals.length > 0 && (
        <ul>
          {refusals.slice(0, MAX_REASONS).map(({ reason, devices }) => (
            <li key={reason}>
              <span class="mono">{devices.slice(0, MAX_REFUSED).join(", ")}</span>
              {devices.length > MAX_REFUSED && ` and ${count(devices.length - MAX_REFUSED)} more`}
              <span class="note"> {asSentence(visible(reason))}</span>
            </li>
          ))}
          {refusals.length > MAX_REASONS && (
            <li class="note">{plural(refusals.length - MAX_REASONS, "further reason")}.</li>
          )}
        </ul>
      )}
      {stopping !== null && (
        <p class="row job-warning">
          <Icon name="warning" />
          The refused devices alone stop the job after batch {count(stopping)} of {count(found.batches)}. Choose another
          share, or let the command wait for offline devices.
        </p>
      )}
    </div>
  );
}

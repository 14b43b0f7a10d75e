/** Card of the commands of a device: send one, watch it, and the history. */

import { useState } from "preact/hooks";
import { meaningOf, parametersText, reasonOf, resultText, stepsOf } from "../../data/commands";
import { hub } from "../../data/hub";
import { dateTime, millisecondsOf, now } from "../../data/time";
import { visible } from "../../data/visible_text";
import { CommandStateLabel, Steps } from "../../ui/command_state";
import { ActionProblem, SelectField, useAction } from "../../ui/controls";
import { jobPath } from "../../ui/route";
import { asSentence } from "../../ui/status_text";
import type { CommandDetails, DeclaredCommand } from "../../wire/api";
import type { DeviceCommands } from "./command_data";
import { CommandForm } from "./command_form";

/** More commands are a list to select from. */
const MAX_BUTTONS = 8;

interface CardProps {
  device: string;
  isConnected: boolean;
  commands: DeviceCommands;
}

/** The card; nothing for a device that declares no command and never had one. */
export function Commands({ device, isConnected, commands }: CardProps) {
  const declared = commands.declared.value ?? [];
  const sent = commands.sent.value;
  if (declared.length === 0 && sent.length === 0) return null;
  return (
    <section class="panel box commands" aria-labelledby="commands-title" data-testid="commands">
      <h2 id="commands-title">Commands</h2>
      <div class="command-columns">
        <div class="command-sender">
          {hub.canOperate ? (
            <Sender device={device} isConnected={isConnected} commands={commands} />
          ) : (
            <ReadOnly declared={declared} />
          )}
        </div>
        <History {...{ device, isConnected, commands }} />
      </div>
    </section>
  );
}

/** Instructions to declare commands; nothing for a device that declares one or had one. */
export function NoCommands({ commands }: { commands: DeviceCommands }) {
  if (commands.declared.value === null || commands.declared.value.length > 0 || commands.sent.value.length > 0)
    return null;
  return (
    <section class="panel box" data-testid="no-commands">
      <h2>Commands</h2>
      <div class="empty-note note command-guide">
        <p>
          This device declares no commands. An agent declares them in <code>agent.toml</code>:
        </p>
        <pre class="mono" tabIndex={0}>
          {'[[command]]\nname = "restart"\nconfirm = true\nprogram = ["systemctl", "restart", "pump"]'}
        </pre>
        <p>
          <code>docs/agent.md</code> has commands that write to a serial port or a Modbus register, and those in Python.
        </p>
      </div>
    </section>
  );
}

function ReadOnly({ declared }: { declared: DeclaredCommand[] }) {
  return (
    <>
      <p class="note" data-testid="commands-read-only">
        Your role is {hub.info.value?.role ?? "viewer"}: it sees commands and their outcome. Sending one needs the role
        operator. Sign in with such a token, which an admin creates on the page Tokens or with{" "}
        <code>hub token create --role operator</code>.
      </p>
      <ul class="declared-list">
        {declared.map(({ name, description, usage }) => (
          <li key={name}>
            <span class="mono">{usage}</span>
            {description !== "" && <span class="note"> {description}</span>}
          </li>
        ))}
      </ul>
    </>
  );
}

function Sender({ device, isConnected, commands }: CardProps) {
  const declared = commands.declared.value ?? [];
  const [chosen, setChosen] = useState<string | null>(null);
  const [sentId, setSentId] = useState<string | null>(null);
  const command = declared.find(({ name }) => name === chosen) ?? declared[0];
  if (command === undefined)
    return <p class="note">The device declares no command now. Earlier ones keep their outcome.</p>;
  const sent = commands.sent.value.find(({ id }) => id === sentId);
  return (
    <>
      <Chooser declared={declared} chosen={command.name} choose={setChosen} />
      <CommandForm
        key={command.name}
        device={device}
        command={command}
        commands={commands}
        isConnected={isConnected}
        onSent={({ id }) => setSentId(id)}
      />
      <div class="command-outcome" role="status" data-testid="command-outcome">
        {sent !== undefined && <Outcome {...{ sent, declared, isConnected }} />}
      </div>
    </>
  );
}

interface ChooserProps {
  declared: DeclaredCommand[];
  chosen: string;
  choose: (name: string) => void;
}

function Chooser({ declared, chosen, choose }: ChooserProps) {
  if (declared.length > MAX_BUTTONS)
    return (
      <SelectField
        name="Command"
        testId="command-name"
        value={chosen}
        options={declared.map(({ name }) => [name, name] as const)}
        change={choose}
      />
    );
  return (
    <fieldset class="command-names" aria-label="Command">
      {declared.map(({ name, description }) => (
        <button
          key={name}
          type="button"
          class="chip box mono"
          aria-pressed={name === chosen}
          title={description}
          onClick={() => choose(name)}
        >
          <span class="ellipsis">{name}</span>
        </button>
      ))}
    </fieldset>
  );
}

interface OutcomeProps {
  sent: CommandDetails;
  declared: DeclaredCommand[];
  isConnected: boolean;
}

/** State of the command that was sent last from this page. It is read aloud at each change. */
function Outcome({ sent, declared, isConnected }: OutcomeProps) {
  const given = parametersText(
    sent.parameters,
    declared.find(({ name }) => name === sent.name),
  );
  return (
    <>
      <p class="row">
        <CommandStateLabel state={sent.state} />
        <span class="ellipsis">
          <span class="mono">{sent.name}</span> <span class="muted">{visible(given)}</span>
        </span>
        {sent.late && <span class="tag">late</span>}
      </p>
      <Explanation command={sent} isConnected={isConnected} />
    </>
  );
}

/** The meaning of the state, the reason, and the result. */
function Explanation({ command, isConnected }: { command: CommandDetails; isConnected: boolean }) {
  const reason = reasonOf(command);
  const result = resultText(command.result);
  return (
    <p class="note command-meaning">
      {meaningOf(command, isConnected, now.value)}
      {reason !== "" && ` ${asSentence(visible(reason))}`}
      {result !== "" && (
        <>
          {" "}
          Result: <span class="mono">{visible(result)}</span>
        </>
      )}
    </p>
  );
}

function History({ device, isConnected, commands }: CardProps) {
  const sent = commands.sent.value;
  const { running, problem, run } = useAction(() => commands.loadOlder());
  return (
    <div class="command-history">
      <h3 class="label">History</h3>
      {commands.follower.problem.value !== null && (
        <p class="problem" role="status">
          {asSentence(commands.follower.problem.value)} This list is from the last answer.
        </p>
      )}
      {sent.length === 0 ? (
        <p class="note">No command was sent to {device} yet.</p>
      ) : (
        <ol class="command-list" tabIndex={0} aria-label="Commands that were sent">
          {sent.map((command) => (
            <HistoryRow key={command.id} command={command} isConnected={isConnected} commands={commands} />
          ))}
          {commands.next.value !== null && (
            <li class="command-more">
              <button type="button" class="button" disabled={running} onClick={() => void run()}>
                Older commands
              </button>
              <ActionProblem problem={problem} />
            </li>
          )}
        </ol>
      )}
    </div>
  );
}

interface RowProps {
  command: CommandDetails;
  isConnected: boolean;
  commands: DeviceCommands;
}

function HistoryRow({ command, isConnected, commands }: RowProps) {
  const declared = commands.declared.value?.find(({ name }) => name === command.name);
  const given = parametersText(command.parameters, declared);
  const { running, problem, run } = useAction(() => commands.cancel(command));
  return (
    <li class="command-row" data-testid="command-row" data-state={command.state}>
      <details>
        <summary>
          <CommandStateLabel state={command.state} />
          <span class="ellipsis">
            <span class="mono">{command.name}</span> <span class="muted">{visible(given)}</span>
          </span>
          {command.late && <span class="tag">late</span>}
          <time class="muted" dateTime={new Date(millisecondsOf(command.created_ns)).toISOString()}>
            {dateTime(millisecondsOf(command.created_ns), now.value)}
          </time>
        </summary>
        <div class="command-details">
          <Explanation command={command} isConnected={isConnected} />
          <Steps steps={stepsOf(command)} />
          <p class="note">
            {command.mode === "queue" ? "Queued" : "Sent"} by {command.operator}, id{" "}
            <span class="mono">{command.id}</span>
            {command.job !== null && (
              <>
                , in a{" "}
                <a class="link" href={jobPath(command.job)}>
                  job for many devices
                </a>
              </>
            )}
          </p>
        </div>
      </details>
      {command.state === "queued" && hub.canOperate && (
        <button
          type="button"
          class="button"
          disabled={running}
          data-testid="cancel-command"
          aria-label={`Cancel ${command.name}`}
          onClick={() => void run()}
        >
          Cancel
        </button>
      )}
      <ActionProblem problem={problem} />
    </li>
  );
}

/** Form of a declared command: its parameters, how it reaches the device, and the confirmation. */

import { useState } from "preact/hooks";
import { ApiError } from "../../data/api";
import { modeText, type ParameterValue, parametersText, TIMEOUTS, TTLS } from "../../data/commands";
import { ActionProblem, Confirmation, SelectField, useAction } from "../../ui/controls";
import { ParameterFields, useParameterForm } from "../../ui/parameter_form";
import { asSentence } from "../../ui/status_text";
import type { CommandDetails, DeclaredCommand } from "../../wire/api";
import type { DeviceCommands } from "./command_data";

interface FormProps {
  device: string;
  command: DeclaredCommand;
  commands: DeviceCommands;
  isConnected: boolean;
  onSent: (command: CommandDetails) => void;
}

type Mode = "call" | "queue";

export function CommandForm({ device, command, commands, isConnected, onSent }: FormProps) {
  const [timeout_s, setTimeout_s] = useState<(typeof TIMEOUTS)[number][0]>("10");
  const [ttl_s, setTtl_s] = useState<(typeof TTLS)[number][0]>("86400");
  const [asking, setAsking] = useState<Mode | null>(null);
  const [mustQueue, setMustQueue] = useState(false);
  const mode: Mode = isConnected && !mustQueue ? "call" : "queue";
  const { running, problem, run, dismiss } = useAction(async () => {
    const request = { name: command.name, parameters: form.given, mode, confirmed: command.confirm };
    try {
      onSent(await commands.send({ ...request, timeout_s: Number(timeout_s), ttl_s: Number(ttl_s) }));
      setMustQueue(false);
    } catch (error) {
      throw explained(error);
    }
  });
  /** Show a refusal of the hub where it belongs, and return the error for the rest of it. */
  const explained = (error: unknown): unknown => {
    if (!(error instanceof ApiError)) return error;
    if (error.code === "wrong_parameters") {
      const rest = form.refuse(error.message);
      return new Error(rest === "" ? "The device does not accept these values." : rest);
    }
    if (error.code === "not_connected") setMustQueue(true);
    if (error.code === "unknown_command") commands.follower.refresh();
    return error;
  };
  const form = useParameterForm(command.parameters, () => problem !== null && dismiss());
  const submit = () => {
    if (!form.check()) return;
    if (command.confirm) setAsking(mode);
    else void run();
  };
  return (
    <form
      class="command-form"
      noValidate
      aria-label={`Command ${command.name}`}
      onSubmit={(event) => {
        event.preventDefault();
        submit();
      }}
    >
      {command.description !== "" && <p class="note">{asSentence(command.description)}</p>}
      <ParameterFields form={form} />
      <p class="note" data-testid="command-mode">
        {modeText(device, mode === "call", ttl_s)}
      </p>
      <div class="command-send bar">
        {mode === "queue" && (
          <SelectField name="Keep it for" testId="command-ttl" value={ttl_s} options={TTLS} change={setTtl_s} />
        )}
        <SelectField
          name="Time for the result"
          testId="command-timeout"
          value={timeout_s}
          options={TIMEOUTS}
          change={setTimeout_s}
        />
        <button type="submit" class="button primary" disabled={running} data-testid="send-command">
          {mode === "call" ? "Send" : "Queue"}
          {command.confirm && "…"}
        </button>
      </div>
      <ActionProblem problem={problem} effect="Nothing was sent." />
      {asking !== null && (
        <Confirmation
          request={{
            text: `${asking === "call" ? "Send" : "Queue"} ${command.name} ${asking === "call" ? "to" : "for"} ${device}?`,
            hint: confirmationText(command, form.given, modeText(device, asking === "call", ttl_s)),
            action: asking === "call" ? "Send" : "Queue",
            onConfirm: () => void run(),
          }}
          close={() => setAsking(null)}
        />
      )}
    </form>
  );
}

function confirmationText(command: DeclaredCommand, parameters: Record<string, ParameterValue>, mode: string): string {
  const given = parametersText(parameters, command);
  return [command.description === "" ? "" : asSentence(command.description), given === "" ? "" : `With ${given}.`, mode]
    .filter((text) => text !== "")
    .join(" ");
}

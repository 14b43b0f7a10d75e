/** Small controls: actions, a confirmation dialog, a command with a copy button, fields, messages, and saving a file. */

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { errorText } from "../data/api";
import { isDeviceId } from "../data/install";
import { visible } from "../data/visible_text";
import { withBase } from "../wire/base_path";
import { Icon } from "./icon";
import { asSentence } from "./status_text";

/** State of the actions that some buttons start. */
interface Actions {
  running: boolean;
  /** Why the last action failed. */
  problem: string | null;
  run: (action: () => Promise<void>) => Promise<void>;
  dismiss: () => void;
}

/** State of an action that a button starts. */
export interface Action extends Omit<Actions, "run"> {
  run: () => Promise<void>;
}

export function useAction(action: () => Promise<void>): Action {
  const actions = useActions();
  return { ...actions, run: () => actions.run(action) };
}

/** Actions of several buttons that show one problem. */
export function useActions(): Actions {
  const [running, setRunning] = useState(false);
  const [problem, setProblem] = useState<string | null>(null);
  const run = async (action: () => Promise<void>) => {
    setRunning(true);
    setProblem(null);
    await action().catch((error: unknown) => setProblem(errorText(error)));
    setRunning(false);
  };
  return { running, problem, run, dismiss: () => setProblem(null) };
}

export interface ConfirmationRequest {
  text: string;
  hint: string;
  action: string;
  /** The word for not doing it, where Cancel is ambiguous. */
  dismissal?: string;
  onConfirm: () => void;
}

export function Confirmation({ request, close }: { request: ConfirmationRequest; close: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current?.showModal(), []);
  return (
    <dialog class="confirmation" ref={dialog} aria-labelledby="confirmation-text" onClose={close}>
      <form method="dialog">
        <h2 id="confirmation-text">{request.text}</h2>
        <p class="note">{request.hint}</p>
        <div class="confirmation-actions bar">
          <button type="submit" class="button">
            {request.dismissal ?? "Cancel"}
          </button>
          <button type="submit" class="button primary" data-testid="confirm" onClick={request.onConfirm}>
            {request.action}
          </button>
        </div>
      </form>
    </dialog>
  );
}

const COPIED_SHOWN_MS = 1600;

/** A command, or another text called `name`, with a button that copies it. */
export function CopyableCommand({ text, name = "the command" }: { text: string; name?: string }) {
  return (
    <div class="command row box">
      <code data-testid="command">
        {text.split("\n").map((line) => (
          <div key={line}>{wordsOf(line)}</div>
        ))}
      </code>
      <CopyButton text={text} name={name} />
    </div>
  );
}

/** A button that copies a text called `name`. */
export function CopyButton({ text, name }: { text: string; name: string }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    await copyText(text);
    setCopied(true);
    setTimeout(() => setCopied(false), COPIED_SHOWN_MS);
  };
  return (
    <button type="button" class="button" onClick={() => void copy()} aria-label={copied ? "Copied" : `Copy ${name}`}>
      <Icon name={copied ? "done" : "copy"} />
      <span class="word">{copied ? "Copied" : "Copy"}</span>
    </button>
  );
}

/** Browsers restrict the clipboard API to secure origins. Otherwise a selection is copied. */
async function copyText(text: string): Promise<void> {
  if (navigator.clipboard !== undefined) {
    try {
      await navigator.clipboard.writeText(text);
      return;
    } catch {
      // Denied: use the selection below.
    }
  }
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

/** Split a line into words, so that it breaks only between them. Keys are positions, because words may repeat. */
function wordsOf(line: string) {
  let begin = 0;
  return line.split(" ").map((word) => {
    const key = begin;
    begin += word.length + 1;
    return [key > 0 && " ", <span key={key}>{word}</span>];
  });
}

/** A control with its name above it. */
export function Field({ name, hint, children }: { name: string; hint?: string; children: ComponentChildren }) {
  return (
    // biome-ignore lint/a11y/noLabelWithoutControl: the control is the child
    <label class="labelled-field">
      <span class="label">{name}</span>
      {children}
      {hint !== undefined && <small class="muted">{hint}</small>}
    </label>
  );
}

interface SelectFieldProps<T extends string> {
  name: string;
  hint?: string;
  testId?: string;
  value: T;
  /** Values with their texts. */
  options: readonly (readonly [T, string])[];
  change: (value: T) => void;
}

/** A choice of one of some values, with its name above it. */
export function SelectField<T extends string>(props: SelectFieldProps<T>) {
  const { name, hint, testId, value, options, change } = props;
  return (
    <Field name={name} hint={hint}>
      <select
        class="field"
        data-testid={testId}
        value={value}
        onChange={(event) => change(event.currentTarget.value as T)}
      >
        {options.map(([option, text]) => (
          <option key={option} value={option}>
            {text}
          </option>
        ))}
      </select>
    </Field>
  );
}

/** Input for the id of a device. */
export function DeviceIdInput({ device, change }: { device: string; change: (device: string) => void }) {
  return (
    <input
      class="field mono device-id"
      aria-label="Device id"
      maxLength={64}
      spellcheck={false}
      autocomplete="off"
      value={device}
      aria-invalid={!isDeviceId(device)}
      onInput={(event) => change(event.currentTarget.value.trim())}
    />
  );
}

/** Why an action failed; nothing while it did not. `effect` says what was not done. */
export function ActionProblem({ problem, effect = "" }: { problem: string | null; effect?: string }) {
  if (problem === null) return null;
  return (
    <p class="problem" role="alert">
      {effect !== "" && `${effect} `}
      {asSentence(problem)}
    </p>
  );
}

/** A page that only shows a message. */
export function PageMessage(props: { title: string; hasLink?: boolean; children: ComponentChildren }) {
  const { title, hasLink = false, children } = props;
  return (
    <div class="message">
      <h1>{title}</h1>
      <p class="muted">{children}</p>
      {hasLink && (
        <a class="button" href={withBase("/")}>
          Back to the fleet
        </a>
      )}
    </div>
  );
}

/** One step of the instructions on an empty page. */
export function Step(props: { number: number; title: string; children: ComponentChildren }) {
  const { number, title, children } = props;
  return (
    <li>
      <span class="step">{number}</span>
      <div>
        <h2>{title}</h2>
        {children}
      </div>
    </li>
  );
}

/** Time for the browser to read the file. */
const KEPT_MS = 60_000;

export function saveFile(content: Blob, name: string): void {
  const url = URL.createObjectURL(content);
  const link = document.createElement("a");
  link.href = url;
  link.download = visible(name);
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), KEPT_MS);
}

/** A text of the hub, with what it has between backticks as code. */
export function WithCode({ text }: { text: string }) {
  return <>{text.split("`").map((part, position) => (position % 2 === 1 ? <code key={part}>{part}</code> : part))}</>;
}

/** Field for a value that a device declares: a number with its unit, a choice, a switch or a text. */

import { fieldKind, hintOf, optionsOf } from "../data/commands";
import type { DeclaredParameter } from "../wire/api";
import { asSentence } from "./status_text";

/** Limit of the protocol. */
const MAX_TEXT = 1024;

interface FieldProps {
  id: string;
  parameter: DeclaredParameter;
  value: string;
  /** Why the value is not accepted; empty if it is, or if it was not checked yet. */
  problem: string;
  change: (value: string) => void;
  /** The person has left the field. */
  check: () => void;
}

export function ParameterField(props: FieldProps) {
  const { id, parameter, problem } = props;
  const hint = hintOf(parameter);
  const name = (
    <>
      {parameter.name}
      {parameter.unit !== "" && fieldKind(parameter) !== "number" && ` (${parameter.unit})`}
    </>
  );
  return (
    <div class="labelled-field parameter" data-parameter={parameter.name}>
      {fieldKind(parameter) === "segments" ? (
        <span class="label" id={`${id}-name`}>
          {name}
        </span>
      ) : (
        <label class="label" for={id} id={`${id}-name`}>
          {name}
        </label>
      )}
      <Control {...props} />
      <small class={problem === "" ? "muted" : "problem"} id={`${id}-hint`} aria-live="polite">
        {problem === "" ? hint : asSentence(problem)}
      </small>
    </div>
  );
}

function Control({ id, parameter, value, problem, change, check }: FieldProps) {
  const { required, default: preset } = parameter;
  const described = { id, "aria-describedby": `${id}-hint`, "aria-invalid": problem !== "" };
  const options = optionsOf(parameter);
  switch (fieldKind(parameter)) {
    case "number":
      return (
        <span class="number-field">
          <input
            {...described}
            class="field number"
            inputMode={parameter.min !== null && parameter.min >= 0 ? "decimal" : "text"}
            autocomplete="off"
            spellcheck={false}
            placeholder={preset === null ? undefined : String(preset)}
            required={required && preset === null}
            value={value}
            onInput={(event) => change(event.currentTarget.value)}
            onBlur={check}
          />
          {parameter.unit !== "" && <span class="unit">{parameter.unit}</span>}
        </span>
      );
    case "text":
      return (
        <input
          {...described}
          class="field"
          autocomplete="off"
          maxLength={MAX_TEXT}
          placeholder={preset === null ? undefined : String(preset)}
          required={required && preset === null}
          value={value}
          onInput={(event) => change(event.currentTarget.value)}
          onBlur={check}
        />
      );
    case "switch":
      return (
        <button
          {...described}
          type="button"
          role="switch"
          class="switch row"
          aria-checked={value === "true"}
          aria-labelledby={`${id}-name`}
          onClick={() => change(value === "true" ? "false" : "true")}
        >
          <span class="switch-track" aria-hidden="true" />
          {value === "true" ? "On" : "Off"}
        </button>
      );
    case "segments":
      return (
        <fieldset class="segments box" aria-labelledby={`${id}-name`} aria-describedby={`${id}-hint`}>
          {options.map(([option, text], index) => (
            <button
              key={option}
              id={index === 0 ? id : undefined}
              type="button"
              aria-pressed={value === option}
              onClick={() => change(option)}
            >
              {text}
            </button>
          ))}
        </fieldset>
      );
    case "select":
      return (
        <select
          {...described}
          class="field"
          value={value}
          onChange={(event) => change(event.currentTarget.value)}
          onBlur={check}
        >
          {preset === null && <option value="">{required ? "Choose…" : "Not sent"}</option>}
          {options.map(([option, text]) => (
            <option key={option} value={option}>
              {text}
            </option>
          ))}
        </select>
      );
  }
}

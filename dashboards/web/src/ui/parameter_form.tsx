/** Form of the parameters that a command declares: its values, their problems, and what the hub refuses. */

import { useId, useState } from "preact/hooks";
import {
  checkForm,
  checkValue,
  type FormValues,
  initialValues,
  type ParameterValue,
  refusalOf,
  textsOf,
} from "../data/commands";
import type { DeclaredParameter } from "../wire/api";
import { ParameterField } from "./parameter_field";

/** State of the form of some parameters. */
export interface ParameterForm {
  parameters: DeclaredParameter[];
  /** The values to send. */
  given: Record<string, ParameterValue>;
  values: FormValues;
  idOf: (name: string) => string;
  problemOf: (name: string) => string;
  change: (name: string, value: string) => void;
  /** The person has left the field of a parameter. */
  leave: (name: string) => void;
  /** Show every problem, and return whether there is none. The first field with one gets the focus. */
  check: () => boolean;
  /** Show a refusal of the hub at the fields that it names, and return the rest of it. */
  refuse: (detail: string) => string;
}

/** Return the form of some parameters, filled with their defaults, and with the `known` values. */
export function useParameterForm(
  parameters: DeclaredParameter[],
  onChange: () => void,
  known: Record<string, ParameterValue> = {},
): ParameterForm {
  const [values, setValues] = useState<FormValues>(() => ({
    ...initialValues(parameters),
    ...textsOf(parameters, known),
  }));
  const [shown, setShown] = useState<ReadonlySet<string>>(new Set());
  const [refused, setRefused] = useState<Record<string, string>>({});
  const id = useId();
  const idOf = (name: string) => `${id}-${name}`;
  const { parameters: given, problems } = checkForm(parameters, values);
  return {
    parameters,
    given,
    values,
    idOf,
    problemOf: (name) => refused[name] || (shown.has(name) && problems[name]) || "",
    change: (name, value) => {
      setValues({ ...values, [name]: value });
      setRefused({ ...refused, [name]: "" });
      onChange();
    },
    leave: (name) => {
      const parameter = parameters.find((known) => known.name === name);
      if (parameter !== undefined && checkValue(parameter, values[name]).problem !== undefined)
        setShown(new Set([...shown, name]));
    },
    check: () => {
      setShown(new Set(parameters.map(({ name }) => name)));
      const first = parameters.find(({ name }) => problems[name] !== undefined);
      if (first !== undefined) document.getElementById(idOf(first.name))?.focus();
      return first === undefined;
    },
    refuse: (detail) => {
      const { fields, rest } = refusalOf(detail, parameters);
      setRefused(fields);
      return rest;
    },
  };
}

/** The fields of the form; nothing without parameters. */
export function ParameterFields({ form }: { form: ParameterForm }) {
  if (form.parameters.length === 0) return null;
  return (
    <div class="command-fields">
      {form.parameters.map((parameter) => (
        <ParameterField
          key={parameter.name}
          id={form.idOf(parameter.name)}
          parameter={parameter}
          value={form.values[parameter.name]}
          problem={form.problemOf(parameter.name)}
          change={(value) => form.change(parameter.name, value)}
          check={() => form.leave(parameter.name)}
        />
      ))}
    </div>
  );
}

/** Settings of a board's port: the baud rate, and the rules that evidence does not decide. */

import { BAUD_RATES, BOARD_FORMATS, boardTab } from "../../data/boards";
import { DECIMAL_MARKS } from "../../data/trial";
import { TIME_WORDS } from "../../formats/times";
import { ActionProblem, Field, SelectField, useActions } from "../../ui/controls";

const TIME_FORMATS: [string, string][] = [
  ["", "By its form"],
  ...TIME_WORDS.filter((word) => word !== "auto").map((word): [string, string] => [word, word]),
];

export function SettingsFields() {
  const { baud, rules } = boardTab.settings.value;
  const { problem, run } = useActions();
  const change = (settings: { baud?: number; rules?: Record<string, string> }) => {
    void run(() => boardTab.configure({ baud, rules, ...settings }));
  };
  const rule = (name: string, value: string) => {
    const { [name]: _, ...others } = rules;
    change({ rules: value === "" ? others : { ...others, [name]: value } });
  };
  return (
    <>
      <div class="board-settings">
        <Field name="Baud rate">
          <input
            class="field"
            type="number"
            min={1}
            max={100_000_000}
            list="baud-rates"
            value={baud}
            onChange={(event) => change({ baud: Math.max(1, Math.round(event.currentTarget.valueAsNumber) || baud) })}
          />
          <datalist id="baud-rates">
            {BAUD_RATES.map((rate) => (
              <option key={rate} value={rate} />
            ))}
          </datalist>
        </Field>
        <SelectField
          name="Format"
          value={rules.format ?? ""}
          options={BOARD_FORMATS}
          change={(value) => rule("format", value)}
        />
        <SelectField
          name="Time format"
          value={rules.time_format ?? ""}
          options={TIME_FORMATS}
          change={(value) => rule("time_format", value)}
        />
        <Field name="Zone">
          <input
            class="field mono"
            spellcheck={false}
            autocomplete="off"
            placeholder="UTC"
            value={rules.zone ?? ""}
            onChange={(event) => rule("zone", event.currentTarget.value.trim())}
          />
        </Field>
        <SelectField
          name="Decimal mark"
          value={rules.decimal ?? ""}
          options={DECIMAL_MARKS}
          change={(value) => rule("decimal", value)}
        />
      </div>
      <ActionProblem problem={problem} effect="The settings were not changed." />
    </>
  );
}

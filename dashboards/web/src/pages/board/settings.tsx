/** Settings of a board's port: the baud rate, and the rules that evidence does not decide. */

import { BAUD_RATES, BOARD_FORMATS, boardTab } from "../../data/boards";
import { Field, useActions } from "../../ui/controls";
import { asSentence } from "../../ui/status_text";

const TIME_FORMATS =
  "iso8601 s ms us ns uptime_s uptime_ms uptime_us since_2000 excel day_first month_first year_first";

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
        <Field name="Format">
          <select
            class="field"
            value={rules.format ?? ""}
            onChange={(event) => rule("format", event.currentTarget.value)}
          >
            {BOARD_FORMATS.map(([value, name]) => (
              <option key={value} value={value}>
                {name}
              </option>
            ))}
          </select>
        </Field>
        <Field name="Time format">
          <select
            class="field"
            value={rules.time_format ?? ""}
            onChange={(event) => rule("time_format", event.currentTarget.value)}
          >
            <option value="">By its form</option>
            {TIME_FORMATS.split(" ").map((value) => (
              <option key={value} value={value}>
                {value}
              </option>
            ))}
          </select>
        </Field>
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
        <Field name="Decimal mark">
          <select
            class="field"
            value={rules.decimal ?? ""}
            onChange={(event) => rule("decimal", event.currentTarget.value)}
          >
            <option value="">By evidence</option>
            <option value=".">Point</option>
            <option value=",">Comma</option>
          </select>
        </Field>
      </div>
      {problem !== null && (
        <p class="problem" role="alert">
          The settings were not changed. {asSentence(problem)}
        </p>
      )}
    </>
  );
}

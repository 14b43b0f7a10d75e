/** Field for a selection of devices: terms that are chosen, one that is written, and suggestions from the fleet. */

import type { ComponentChildren } from "preact";
import { useMemo } from "preact/hooks";
import { hub } from "../../data/hub";
import { candidatesOf, suggestionsOf, termsOf } from "../../data/selection";
import { visible } from "../../data/visible_text";
import { Icon } from "../../ui/icon";

/** Limit of the API. */
const MAX_TERM = 321;

/** A selection while a person writes it. `text` is the term that is not ended. */
export interface WrittenSelection {
  terms: string[];
  text: string;
}

/** Return every term, also the one that is not ended. */
export function writtenTerms({ terms, text }: WrittenSelection): string[] {
  return [...new Set([...terms, ...termsOf(text)])];
}

interface FieldProps {
  selection: WrittenSelection;
  change: (selection: WrittenSelection) => void;
  /** Description of the devices that match. */
  children: ComponentChildren;
}

export function SelectionField({ selection, change, children }: FieldProps) {
  const { terms, text } = selection;
  void hub.fleet.version.value; // the list changes with it
  const size = hub.fleet.records.size;
  const candidates = useMemo(
    () =>
      candidatesOf(
        [...hub.fleet.records.values()].map(({ device, state }) => ({ device, tags: state.peek().tags ?? {} })),
      ),
    [size, hub.fleet.loaded.value],
  );
  const suggestions = suggestionsOf(candidates, text, terms);
  const add = (term: string) => change({ terms: [...new Set([...terms, term])], text: "" });
  const remove = (term: string) => change({ terms: terms.filter((known) => known !== term), text });
  const end = () => change({ terms: writtenTerms(selection), text: "" });
  return (
    <div class="selection">
      <div class="selection-field field">
        {terms.map((term) => (
          <span class="tag mono" key={term} data-testid="selection-term">
            <span class="ellipsis">{visible(term)}</span>
            <button type="button" aria-label={`Remove ${term}`} onClick={() => remove(term)}>
              <Icon name="close" />
            </button>
          </span>
        ))}
        <input
          class="mono"
          aria-label="Devices and tags"
          aria-describedby="selection-hint"
          placeholder={terms.length === 0 ? "vehicle-* or type=vehicle" : ""}
          spellcheck={false}
          autocomplete="off"
          autocapitalize="off"
          maxLength={MAX_TERM}
          value={text}
          onInput={(event) => {
            const written = event.currentTarget.value;
            if (/[\s,]$/.test(written)) change({ terms: writtenTerms({ terms, text: written }), text: "" });
            else change({ terms, text: written });
          }}
          onKeyDown={(event) => {
            if (event.key === "Enter" && text !== "") {
              event.preventDefault();
              end();
            } else if (event.key === "Backspace" && text === "" && terms.length > 0) remove(terms[terms.length - 1]);
          }}
        />
      </div>
      <p id="selection-hint" role="status" data-testid="selection-count">
        {children}
      </p>
      {suggestions.length > 0 && (
        <fieldset class="selection-suggestions" aria-label="Suggestions">
          {suggestions.map(({ term, devices }) => (
            <button key={term} type="button" class="chip box mono" onClick={() => add(term)}>
              <span class="ellipsis">{visible(term)}</span>
              {devices > 1 && <span class="muted">{devices}</span>}
            </button>
          ))}
        </fieldset>
      )}
    </div>
  );
}

/** Form that creates a token and shows it once. */

import { useState } from "preact/hooks";
import { createToken } from "../../data/api";
import { DEVICE_ID_RULE, isDeviceId } from "../../data/install";
import { LIFETIMES, ROLES, type Role, tokenRequest } from "../../data/tokens";
import { ActionProblem, CopyableCommand, Field, SelectField, useAction } from "../../ui/controls";
import type { CreatedToken } from "../../wire/api";

const SUBJECTS: Partial<Record<Role, { name: string; hint: string }>> = {
  device: { name: "Device id", hint: "boiler-1" },
  gateway: { name: "Pattern of device ids", hint: "plant-2.*" },
};

const ROLE_OPTIONS = Object.entries(ROLES) as [Role, string][];
/** The lifetimes under their places in the list. */
const LIFETIME_OPTIONS = LIFETIMES.map(([text], place): [string, string] => [String(place), text]);

interface CreateTokenPanelProps {
  /** The token that was created here and is still valid. */
  created: CreatedToken | null;
  onCreated: (token: CreatedToken) => void;
  close: () => void;
}

export function CreateTokenPanel({ created, onCreated, close }: CreateTokenPanelProps) {
  return (
    <section class="access-form box" aria-labelledby="create-title">
      {created === null ? <Form close={close} onToken={onCreated} /> : <Secret created={created} close={close} />}
    </section>
  );
}

function Secret({ created, close }: { created: CreatedToken; close: () => void }) {
  return (
    <div data-testid="new-token">
      <h2 id="create-title">Token {created.id}</h2>
      <p class="note">Save it now. The hub keeps only its hash, so it cannot be shown again.</p>
      <CopyableCommand text={created.token} name="the token" />
      <div class="bar access-buttons">
        <button type="button" class="button" onClick={close}>
          Done
        </button>
      </div>
    </div>
  );
}

function Form({ close, onToken }: { close: () => void; onToken: (token: CreatedToken) => void }) {
  const [role, setRole] = useState<Role>("device");
  const [subject, setSubject] = useState("");
  const [label, setLabel] = useState("");
  const [lifetime, setLifetime] = useState("0");
  const named = SUBJECTS[role];
  const { running, problem, run } = useAction(async () => {
    if (role === "device" && !isDeviceId(subject.trim())) throw new Error(DEVICE_ID_RULE);
    onToken(await createToken(tokenRequest(role, subject.trim(), label, LIFETIMES[Number(lifetime)][1])));
  });
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        void run();
      }}
    >
      <h2 id="create-title">Create a token</h2>
      <div class="access-fields">
        <SelectField name="Role" value={role} options={ROLE_OPTIONS} change={setRole} />
        {named !== undefined && (
          <Field name={named.name}>
            <input
              class="field mono"
              required
              maxLength={64}
              spellcheck={false}
              autocomplete="off"
              placeholder={named.hint}
              value={subject}
              onInput={(event) => setSubject(event.currentTarget.value)}
            />
          </Field>
        )}
        <Field name="Label (optional)">
          <input
            class="field"
            maxLength={128}
            placeholder="Purpose, in your own words"
            value={label}
            onInput={(event) => setLabel(event.currentTarget.value)}
          />
        </Field>
        <SelectField name="Expires" value={lifetime} options={LIFETIME_OPTIONS} change={setLifetime} />
      </div>
      <ActionProblem problem={problem} effect="No token was created." />
      <div class="bar access-buttons">
        <button type="submit" class="button primary" disabled={running}>
          Create
        </button>
        <button type="button" class="button" onClick={close}>
          Cancel
        </button>
      </div>
    </form>
  );
}

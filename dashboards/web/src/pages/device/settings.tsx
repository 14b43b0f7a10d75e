/** Card of the settings of a device: desired and reported values, and a change of the desired ones. */

import type { ComponentChildren } from "preact";
import { useId, useState } from "preact/hooks";
import { ApiError } from "../../data/api";
import { checkValue, fieldText, type ParameterValue, refusalOf, withUnit } from "../../data/commands";
import { hub } from "../../data/hub";
import { type DeviceLink, differenceText, parameterOf, SYNC_TEXTS, type SyncState } from "../../data/settings";
import { ago, dateTime, millisecondsOf, now } from "../../data/time";
import { visible } from "../../data/visible_text";
import { ActionProblem, useActions } from "../../ui/controls";
import { DashedCircle, Icon } from "../../ui/icon";
import { ParameterField } from "../../ui/parameter_field";
import { asSentence } from "../../ui/status_text";
import type { DesiredDetails, SettingDetails } from "../../wire/api";
import type { DeviceSettings } from "./setting_data";

interface CardProps {
  device: string;
  isConnected: boolean;
  settings: DeviceSettings;
}

/** The card; nothing for a device that declares no setting and has no desired value. */
export function Settings({ device, isConnected, settings }: CardProps) {
  const [edited, setEdited] = useState<string | null>(null);
  const details = settings.details.value;
  if (details === null || details.settings.length === 0) return null;
  const link = { device, isConnected, isCurrent: details.is_current };
  return (
    <section class="panel box settings" aria-labelledby="settings-title" data-testid="settings">
      <h2 id="settings-title">Settings</h2>
      <p class="note settings-note">
        <ReportAge details={details} link={link} />
        {!hub.canOperate &&
          ` Your role is ${hub.info.value?.role ?? "viewer"}: changing a value needs the role operator.`}
      </p>
      {settings.follower.problem.value !== null && (
        <p class="problem settings-note" role="status">
          {asSentence(settings.follower.problem.value)} The values are from the last answer.
        </p>
      )}
      <table class="setting-table">
        <thead>
          <tr>
            {["Setting", "Desired", "Reported", "State", "Action"].map((name) => (
              <th key={name} scope="col">
                <span class={name === "Action" ? "hidden-text" : undefined}>{name}</span>
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {details.settings.map((setting) => (
            <SettingRow
              key={setting.name}
              setting={setting}
              link={link}
              isEdited={edited === setting.name}
              edit={() => setEdited(setting.name)}
            >
              {edited === setting.name && (
                <SettingForm device={device} setting={setting} settings={settings} close={() => setEdited(null)} />
              )}
            </SettingRow>
          ))}
        </tbody>
      </table>
    </section>
  );
}

function ReportAge({ details, link }: { details: DesiredDetails; link: DeviceLink }) {
  const { reported_ns } = details;
  if (reported_ns === null) return <>{link.device} has not reported its settings yet.</>;
  const time_ms = millisecondsOf(reported_ns);
  if (link.isCurrent) return <>Reported {ago(now.value - time_ms)}.</>;
  return (
    <>
      Reported {dateTime(time_ms, now.value)},{" "}
      {link.isConnected ? "on an earlier connection" : "before it disconnected"}.
    </>
  );
}

interface RowProps {
  setting: SettingDetails;
  link: DeviceLink;
  isEdited: boolean;
  edit: () => void;
  children: ComponentChildren;
}

function SettingRow({ setting, link, isEdited, edit, children }: RowProps) {
  const { name, declared, desired, reported } = setting;
  const unit = declared?.unit ?? "";
  const meaning = differenceText(setting, link);
  return (
    <>
      <tr data-testid="setting" data-setting={name}>
        <th scope="row">
          <span class="mono">{name}</span>
          {declared !== null && declared.description !== "" && <span class="note detail">{declared.description}</span>}
        </th>
        <td data-label="Desired" data-testid="desired">
          <Shown value={desired?.value ?? null} unit={unit} />
        </td>
        <td data-label="Reported" data-testid="reported">
          <Shown value={reported} unit={unit} />
        </td>
        <td data-label="State" aria-live="polite">
          {desired === null ? <span class="muted">–</span> : <SyncLabel state={desired.state} />}
          {meaning !== "" && <span class="note detail">{visible(meaning)}</span>}
          {desired !== null && (
            <span class="note detail">
              Set {ago(now.value - millisecondsOf(desired.time_ns))} by {desired.operator}
            </span>
          )}
        </td>
        <td class="setting-action">
          {hub.canOperate && !isEdited && (
            <button type="button" class="button" data-testid="edit-setting" onClick={edit}>
              {declared === null ? "Clear…" : "Change"}
              <span class="hidden-text"> {name}</span>
            </button>
          )}
        </td>
      </tr>
      {isEdited && (
        <tr class="setting-edit">
          <td colSpan={5}>{children}</td>
        </tr>
      )}
    </>
  );
}

function Shown({ value, unit }: { value: ParameterValue | null; unit: string }) {
  if (value === null) return <span class="muted">–</span>;
  return <>{visible(withUnit(value, typeof value === "number" ? unit : ""))}</>;
}

function SyncLabel({ state }: { state: SyncState }) {
  return (
    <span class={`sync-state row ${state}`} data-testid="sync-state" data-state={state}>
      {state === "in_sync" ? <Icon name="done" /> : state === "rejected" ? <Icon name="warning" /> : <DashedCircle />}
      {SYNC_TEXTS[state]}
    </span>
  );
}

interface FormProps {
  device: string;
  setting: SettingDetails;
  settings: DeviceSettings;
  close: () => void;
}

/** Form for one desired value, in place of the row's button. */
function SettingForm({ device, setting, settings, close }: FormProps) {
  const id = useId();
  const parameter = parameterOf(setting);
  const { name, desired } = setting;
  const [text, setText] = useState(() =>
    parameter === null ? "" : fieldText(parameter, desired?.value ?? setting.reported),
  );
  const [version, setVersion] = useState(settings.details.peek()?.version ?? 0);
  const [shown, setShown] = useState("");
  const { running, problem, run, dismiss } = useActions();
  const change = async (value: ParameterValue | null) => {
    try {
      await settings.change(name, value, version);
      close();
    } catch (error) {
      if (error instanceof ApiError && error.code === "wrong_version") {
        settings.follower.refresh();
        throw new Error("Somebody else has changed the settings of this device. Look at the values, and save again.");
      }
      const refused =
        error instanceof ApiError && parameter !== null && refusalOf(error.message, [parameter]).fields[name];
      if (refused) {
        setShown(refused);
        throw new Error("The device does not accept this value.");
      }
      throw error;
    }
  };
  // After a conflict, the person sees the newest values: the next attempt is about those.
  const newest = settings.details.value?.version ?? 0;
  if (problem !== null && newest !== version) setVersion(newest);
  const save = () => {
    if (parameter === null) return;
    const checked = checkValue(parameter, text);
    setShown(checked.problem ?? "");
    if (checked.problem !== undefined) document.getElementById(id)?.focus();
    else if (checked.value !== undefined) void run(() => change(checked.value ?? null));
  };
  return (
    <form
      class="setting-form"
      noValidate
      aria-label={`Desired value of ${name}`}
      onSubmit={(event) => {
        event.preventDefault();
        save();
      }}
      onKeyDown={(event) => event.key === "Escape" && close()}
    >
      {parameter !== null && (
        <ParameterField
          id={id}
          parameter={parameter}
          value={text}
          problem={shown}
          change={(value) => {
            setText(value);
            setShown("");
            dismiss();
          }}
          check={() => setShown(checkValue(parameter, text).problem ?? "")}
        />
      )}
      <div class="bar">
        {parameter !== null && (
          <button type="submit" class="button primary" disabled={running} data-testid="save-setting">
            Save
          </button>
        )}
        {desired !== null && (
          <button
            type="button"
            class="button"
            disabled={running}
            title={`Desire no value: ${device} keeps the one that is in force`}
            data-testid="clear-setting"
            onClick={() => void run(() => change(null))}
          >
            Clear
          </button>
        )}
        <button type="button" class="button plain" onClick={close}>
          Cancel
        </button>
      </div>
      <ActionProblem problem={problem} effect="Nothing was changed." />
    </form>
  );
}

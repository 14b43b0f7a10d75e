/** The metrics of a device, and the dialog in which an admin changes one. */

import { useEffect, useRef, useState } from "preact/hooks";
import { changeMetric } from "../../data/api";
import { isStale, reportingText } from "../../data/freshness";
import { hub } from "../../data/hub";
import { changeOf, type EditedMetric, retriedText } from "../../data/metric_change";
import type { MetricDetails } from "../../data/metrics";
import { ActionProblem, Field, SelectField, useAction } from "../../ui/controls";
import { Icon } from "../../ui/icon";
import type { DeviceMetric, RetriedBatches } from "../../wire/api";
import type { DeviceState } from "../../wire/live";

const TYPES = (["float", "integer", "boolean", "string"] as const).map((type) => [type, type] as const);

/** Limits of the hub. */
const MAX_NAME = 128;
const MAX_UNIT = 32;
const MAX_DESCRIPTION = 256;

interface MetricsProps {
  device: string;
  metrics: DeviceMetric[];
  state: DeviceState;
}

export function Metrics({ device, metrics, state }: MetricsProps) {
  const [edited, setEdited] = useState<MetricDetails | null>(null);
  if (metrics.length === 0) return null;
  return (
    <>
      <section class="panel box" data-testid="metrics">
        <h2>Metrics</h2>
        <ul class="metric-list" tabIndex={0} aria-label="Metrics">
          {metrics.map((metric) => (
            <li key={metric.metric} data-metric={metric.metric}>
              <span class="metric-name">
                <span class="mono">{metric.metric}</span>
                <span class="muted">
                  {metric.type}
                  {[metric.unit, reportingText(metric)].filter(Boolean).map((text) => `, ${text}`)}
                </span>
                {isStale(state, metric.metric) && <span class="stale-tag">Stale</span>}
                {metric.description !== "" && <span class="detail muted">{metric.description}</span>}
              </span>
              {hub.canAdminister && (
                <button
                  type="button"
                  class="button plain"
                  aria-label={`Edit ${metric.metric}`}
                  title="Edit"
                  data-testid="edit-metric"
                  onClick={() => setEdited(metric)}
                >
                  <Icon name="edit" />
                </button>
              )}
            </li>
          ))}
        </ul>
      </section>
      {edited !== null && <MetricDialog device={device} metric={edited} close={() => setEdited(null)} />}
    </>
  );
}

interface DialogProps {
  device: string;
  metric: MetricDetails;
  close: () => void;
}

function MetricDialog({ device, metric, close }: DialogProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [retried, setRetried] = useState<RetriedBatches | null>(null);
  useEffect(() => dialog.current?.showModal(), []);
  const onSaved = (result: RetriedBatches | null) => {
    if (result !== null && (result.selected > 0 || result.next !== null)) setRetried(result);
    else dialog.current?.close();
  };
  return (
    <dialog class="confirmation metric-dialog" ref={dialog} aria-labelledby="metric-title" onClose={close}>
      <h2 id="metric-title">{metric.metric}</h2>
      {retried === null ? (
        <MetricForm device={device} metric={metric} onSaved={onSaved} />
      ) : (
        <form method="dialog">
          <p role="status" data-testid="retried">
            {retriedText(retried)}
          </p>
          <div class="confirmation-actions bar">
            <button type="submit" class="button primary">
              Close
            </button>
          </div>
        </form>
      )}
    </dialog>
  );
}

interface FormProps {
  device: string;
  metric: MetricDetails;
  /** Receives the result of the retry; null if nothing was changed. */
  onSaved: (retried: RetriedBatches | null) => void;
}

function MetricForm({ device, metric, onSaved }: FormProps) {
  const { type, unit, description } = metric;
  const [values, setValues] = useState<EditedMetric>({ name: metric.metric, type, unit, description });
  const { running, problem, run } = useAction(async () => {
    const change = changeOf(metric, values);
    if (change === null) return onSaved(null);
    const { retried } = await changeMetric(device, change);
    await hub.fleet.fetch(device);
    onSaved(retried);
  });
  const set = (changed: Partial<EditedMetric>) => setValues({ ...values, ...changed });
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        void run();
      }}
    >
      <div class="metric-fields">
        <Field name="Name" hint="The device may continue to send the old name.">
          <input
            class="field mono"
            required
            maxLength={MAX_NAME}
            spellcheck={false}
            autocomplete="off"
            data-testid="metric-name"
            value={values.name}
            onInput={(event) => set({ name: event.currentTarget.value })}
          />
        </Field>
        <SelectField
          name="Type"
          hint="Of new readings. Stored ones stay readable as they are."
          testId="metric-type"
          value={values.type}
          options={TYPES}
          change={(type) => set({ type })}
        />
        <TextField
          name="Unit"
          hint="Only shown: no value is converted."
          maxLength={MAX_UNIT}
          testId="metric-unit"
          value={values.unit}
          change={(unit) => set({ unit })}
        />
        <TextField
          name="Description"
          maxLength={MAX_DESCRIPTION}
          testId="metric-description"
          value={values.description}
          change={(description) => set({ description })}
        />
      </div>
      <ActionProblem problem={problem} effect="The metric was not changed." />
      <div class="confirmation-actions bar">
        <button type="button" class="button" onClick={() => onSaved(null)}>
          Cancel
        </button>
        <button type="submit" class="button primary" disabled={running} data-testid="save-metric">
          Save
        </button>
      </div>
    </form>
  );
}

interface TextFieldProps {
  name: string;
  hint?: string;
  maxLength: number;
  testId: string;
  value: string;
  change: (text: string) => void;
}

/** Field for a text that can be empty. */
function TextField({ name, hint, maxLength, testId, value, change }: TextFieldProps) {
  return (
    <Field name={name} hint={hint}>
      <input
        class="field"
        maxLength={maxLength}
        autocomplete="off"
        data-testid={testId}
        value={value}
        onInput={(event) => change(event.currentTarget.value)}
      />
    </Field>
  );
}

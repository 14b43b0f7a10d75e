/** Quarantine page: reasons with counts and advice, then the messages. */

import { useEffect, useMemo, useState } from "preact/hooks";
import { errorText } from "../../data/api";
import { hub } from "../../data/hub";
import { count, plural } from "../../data/number_format";
import { Poller } from "../../data/poller";
import { describeRetry, type Filter, QuarantineList } from "../../data/quarantine";
import { ago, now } from "../../data/time";
import { Confirmation, type ConfirmationRequest, WithCode } from "../../ui/controls";
import { Icon } from "../../ui/icon";
import type { CodeCount, QuarantineCounts } from "../../wire/api";
import { type Actions, BulkActions, Messages } from "./messages";

const POLL_PERIOD_MS = 5000;

/** Progress or result of an action. */
interface ActionState {
  status: "running" | "finished" | "failed";
  text: string;
}

export function QuarantinePage() {
  const list = useMemo(() => new QuarantineList(), []);
  const [confirmation, setConfirmation] = useState<ConfirmationRequest | null>(null);
  const [state, setState] = useState<ActionState | null>(null);
  useEffect(() => new Poller(() => list.refresh(), POLL_PERIOD_MS).start(), [list]);
  const counts = list.counts.value;
  const problem = list.problem.value;
  if (counts === null)
    return problem === null ? <div class="quarantine" aria-busy="true" /> : <p class="message problem">{problem}</p>;
  const isAllowed = hub.canOperate && state?.status !== "running";
  const actions = isAllowed ? createActions(list, setState, setConfirmation) : null;
  const shown = state ?? (problem === null ? null : { status: "failed", text: problem });
  return (
    <>
      <h1 class="hidden-text">Quarantine</h1>
      <p
        class={`quarantine-status box ${shown?.status === "failed" ? "problem" : ""}`}
        role="status"
        data-testid="quarantine-status"
        hidden={shown === null}
      >
        {shown?.text}
      </p>
      {counts.entries === 0 ? (
        <EmptyQuarantine dropped={counts.dropped} />
      ) : (
        <div class="quarantine" data-testid="quarantine">
          <Summary counts={counts} />
          <ul class="reasons" aria-label="Reasons">
            {counts.codes.map((codeCount) => (
              <Reason key={codeCount.code} list={list} codeCount={codeCount} actions={actions} />
            ))}
          </ul>
          <Messages list={list} counts={counts} actions={actions} />
        </div>
      )}
      {confirmation !== null && <Confirmation request={confirmation} close={() => setConfirmation(null)} />}
    </>
  );
}

/** Return the actions of an operator. Each one shows its progress and result. */
function createActions(
  list: QuarantineList,
  setState: (state: ActionState) => void,
  confirm: (request: ConfirmationRequest) => void,
): Actions {
  const run = async (text: string, action: () => Promise<string>) => {
    setState({ status: "running", text });
    try {
      setState({ status: "finished", text: await action() });
    } catch (error) {
      setState({ status: "failed", text: errorText(error) });
    }
    await list.refresh().catch(() => undefined);
  };
  const retryAll = (filter: Filter, total: number) =>
    run(`Retrying ${plural(total, "message")}…`, async () => {
      const onProgress = (done: number) =>
        setState({ status: "running", text: `Retried ${count(done)} of ${plural(total, "message")}…` });
      return describeRetry(await list.retryAll(filter, onProgress));
    });
  return {
    retryOne: (offset) => void run("Retrying…", async () => describeRetry(await list.retryOne(offset))),
    deleteOne: (offset) =>
      confirm({
        text: `Delete message ${offset} permanently?`,
        hint: "It cannot be restored.",
        action: "Delete",
        onConfirm: () =>
          void run("Deleting…", async () => {
            await list.deleteOne(offset);
            return `Message ${offset} was deleted.`;
          }),
      }),
    retryAll: (filter, total) =>
      confirm({
        text: `Retry ${plural(total, "message")}${describeFilter(filter)}?`,
        hint: "The hub validates them again with the current metrics of their devices. Accepted messages are stored as historical data and leave the quarantine; the others stay.",
        action: "Retry",
        onConfirm: () => void retryAll(filter, total),
      }),
    deleteAll: (filter, total) =>
      confirm({
        text: `Delete ${plural(total, "message")}${describeFilter(filter)} permanently?`,
        hint: "They cannot be restored.",
        action: "Delete",
        onConfirm: () =>
          void run("Deleting…", async () => `${plural(await list.deleteAll(filter), "message")} deleted.`),
      }),
  };
}

function describeFilter({ device, code }: Filter): string {
  return `${code === null ? "" : ` with ${code}`}${device === null ? "" : ` from ${device}`}`;
}

function Summary({ counts }: { counts: QuarantineCounts }) {
  return (
    <p class="quarantine-summary muted">
      <b>{plural(counts.entries, "message")}</b> could not be accepted or stored. The quarantine keeps them. Each reason
      says what to do{hub.canOperate ? "" : "; an operator can retry and delete messages"}.
      {counts.dropped > 0 && ` ${dropped(counts.dropped)}`}
    </p>
  );
}

function dropped(total: number): string {
  return `${plural(total, "older message was", "older messages were")} deleted because the quarantine was full.`;
}

function EmptyQuarantine({ dropped: total }: { dropped: number }) {
  return (
    <section class="guide box" data-testid="empty-quarantine">
      <h1 class="quarantine-empty row">
        <Icon name="done" /> The quarantine is empty
      </h1>
      <p>
        Nothing waits for a decision. Values that the hub cannot accept or store, for example because of an undeclared
        metric or a wrong type, appear here with the reason. You can then correct the cause and retry them, or delete
        them.
      </p>
      {total > 0 && <p>{dropped(total)}</p>}
    </section>
  );
}

interface ReasonProps {
  list: QuarantineList;
  codeCount: CodeCount;
  actions: Actions | null;
}

function Reason({ list, codeCount, actions }: ReasonProps) {
  const { code, entries, devices, newest_ns, advice, retryable } = codeCount;
  const selected = list.filter.value.code === code;
  return (
    <li class={`reason box ${selected ? "chosen" : ""}`} data-testid="reason" data-code={code}>
      <button
        type="button"
        class="reason-head row"
        aria-pressed={selected}
        title={selected ? "Show all reasons" : "Show only this reason"}
        onClick={() => void list.setFilter({ code: selected ? null : code, device: null })}
      >
        <span class="reason-count big number">{count(entries)}</span>
        <span class="reason-name">
          <span class="mono">{code === "" ? "no reason" : code}</span>
          <span class="muted">
            {plural(devices, "device")}, newest {ago(now.value - newest_ns / 1e6)}
          </span>
        </span>
      </button>
      <p class="reason-advice note">
        <WithCode text={advice} />
      </p>
      {actions !== null && (
        <div class="bar">
          <BulkActions actions={actions} filter={{ code, device: null }} total={entries} retryable={retryable}>
            all<span class="hidden-text"> with {code}</span>
          </BulkActions>
        </div>
      )}
    </li>
  );
}

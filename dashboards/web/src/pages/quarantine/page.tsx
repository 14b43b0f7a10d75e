/** Quarantine page: reasons with counts and advice, then the messages. */

import { useEffect, useMemo, useState } from "preact/hooks";
import { hub } from "../../data/hub";
import { count } from "../../data/number_format";
import { Poller } from "../../data/poller";
import {
  type CodeCount,
  type Counts,
  describeRetry,
  type Filter,
  plural,
  QuarantineList,
} from "../../data/quarantine";
import { age, now } from "../../data/time";
import { Confirmation, type Question } from "../../ui/controls";
import { Icon } from "../../ui/icon";
import { type Actions, Messages } from "./messages";

/** Progress or result of an action. */
export interface ActionState {
  /** Text while it runs. */
  running: string | null;
  result: string | null;
  isProblem: boolean;
}

const POLL_PERIOD_MS = 5000;
const NOTHING: ActionState = { running: null, result: null, isProblem: false };

export function QuarantinePage() {
  const list = useMemo(() => new QuarantineList(), []);
  const [question, setQuestion] = useState<Question | null>(null);
  const [doing, setDoing] = useState<ActionState>(NOTHING);
  useEffect(() => new Poller(() => list.refresh(), POLL_PERIOD_MS).start(), [list]);
  const counts = list.counts.value;
  const role = hub.info.value?.role;
  const canManage = role === "operator" || role === "admin";

  /** Run an action and show its result. */
  const run = async (running: string, work: () => Promise<string>) => {
    setDoing({ running, result: null, isProblem: false });
    try {
      const result = await work();
      setDoing({ running: null, result, isProblem: false });
    } catch (error) {
      const result = error instanceof Error ? error.message : String(error);
      setDoing({ running: null, result, isProblem: true });
    }
    await list.refresh().catch(() => undefined);
  };

  const actions: Actions = {
    retryOne: (offset) => void run("Retrying…", async () => describeRetry(await list.retryOne(offset))),
    deleteOne: (offset) =>
      setQuestion({
        text: `Delete message ${offset} for good?`,
        hint: "It cannot be brought back.",
        action: "Delete",
        yes: () =>
          void run("Deleting…", async () => {
            await list.deleteOne(offset);
            return `Message ${offset} is deleted.`;
          }),
      }),
    retryAll: (filter, number) =>
      setQuestion({
        text: `Retry ${plural(number, "message")}${ofWhich(filter)}?`,
        hint: "They are judged with their devices' metrics of now. What is accepted is stored as historical data and leaves the quarantine; the rest stays.",
        action: "Retry",
        yes: () =>
          void run(`Retrying ${plural(number, "message")}…`, async () => {
            const told = (done: number) =>
              setDoing({
                running: `RetryResult ${done.toLocaleString("en")} of ${plural(number, "message")}…`,
                result: null,
                isProblem: false,
              });
            return describeRetry(await list.retryAll(filter, told));
          }),
      }),
    deleteAll: (filter, number) =>
      setQuestion({
        text: `Delete ${plural(number, "message")}${ofWhich(filter)} for good?`,
        hint: "They cannot be brought back.",
        action: "Delete",
        yes: () =>
          void run("Deleting…", async () => `${plural(await list.deleteAll(filter), "message")} deleted.`),
      }),
  };

  if (counts === null)
    return list.problem.value === null ? (
      <div class="quarantine" aria-busy="true" />
    ) : (
      <p class="message problem">{list.problem.value}</p>
    );
  return (
    <>
      <h1 class="hidden-text">Quarantine</h1>
      <ActionResult doing={doing} problem={list.problem.value} />
      {counts.entries === 0 ? (
        <EmptyQuarantine dropped={counts.dropped} />
      ) : (
        <div class="quarantine" data-testid="quarantine">
          <Summary counts={counts} canManage={canManage} />
          <Reasons
            list={list}
            counts={counts}
            actions={canManage && doing.running === null ? actions : null}
          />
          <Messages
            list={list}
            counts={counts}
            actions={canManage && doing.running === null ? actions : null}
          />
        </div>
      )}
      {question !== null && <Confirmation question={question} close={() => setQuestion(null)} />}
    </>
  );
}

function ofWhich({ device, code }: Filter): string {
  return `${code === null ? "" : ` with ${code}`}${device === null ? "" : ` of ${device}`}`;
}

function ActionResult({ doing, problem }: { doing: ActionState; problem: string | null }) {
  const text = doing.running ?? doing.result ?? problem;
  const isProblem =
    doing.running === null && (doing.isProblem || (doing.result === null && problem !== null));
  return (
    <p
      class={`quarantine-said ${isProblem ? "problem" : ""}`}
      role="status"
      data-testid="quarantine-said"
      hidden={text === null}
    >
      {text}
    </p>
  );
}

function Summary({ counts, canManage }: { counts: Counts; canManage: boolean }) {
  return (
    <p class="quarantine-summary">
      <b>{plural(counts.entries, "message")}</b> could not be accepted or stored. Nothing of them is lost: put
      right what is wrong and retry them{canManage ? "" : " (an operator can)"}.
      {counts.dropped > 0 && ` ${plural(counts.dropped, "older message")} had to make room.`}
    </p>
  );
}

export function EmptyQuarantine({ dropped }: { dropped: number }) {
  return (
    <section class="teach" data-testid="empty-quarantine">
      <h1 class="quarantine-empty">
        <Icon name="done" /> Nothing is in quarantine
      </h1>
      <p>
        No batch waits for a decision. One that cannot be accepted or stored, because a metric was not
        declared or a value is no number, is kept here with its reason: to be read, put right and retried, or
        deleted.
      </p>
      {dropped > 0 && (
        <p>{plural(dropped, "older message")} had to make room before, because the quarantine is bounded.</p>
      )}
    </section>
  );
}

export function Reasons({
  list,
  counts,
  actions,
}: {
  list: QuarantineList;
  counts: Counts;
  actions: Actions | null;
}) {
  return (
    <ul class="reasons" aria-label="Reasons">
      {counts.codes.map((code) => (
        <Reason key={code.code} list={list} counted={code} actions={actions} />
      ))}
    </ul>
  );
}

function Reason({
  list,
  counted,
  actions,
}: {
  list: QuarantineList;
  counted: CodeCount;
  actions: Actions | null;
}) {
  const { code, entries } = counted;
  const chosen = list.filter.value.code === code;
  const filter = { code, device: null };
  return (
    <li class={`reason ${chosen ? "chosen" : ""}`} data-testid="reason" data-code={code}>
      <button
        type="button"
        class="reason-head"
        aria-pressed={chosen}
        title={chosen ? "Show all reasons" : "Show only these"}
        onClick={() => void list.choose({ code: chosen ? null : code, device: null })}
      >
        <span class="reason-count number">{count(entries)}</span>
        <span class="reason-name">
          <span class="mono">{code === "" ? "no reason" : code}</span>
          <span class="muted">
            {counted.devices === 1 ? "1 device" : `${count(counted.devices)} devices`}, newest{" "}
            {age(now.value - counted.newest_ns / 1e6)} ago
          </span>
        </span>
      </button>
      <p class="reason-advice">{counted.advice}</p>
      {actions !== null && (
        <div class="reason-actions">
          <button type="button" class="button" onClick={() => actions.retryAll(filter, entries)}>
            <Icon name="retry" />
            Retry all<span class="hidden-text"> with {code}</span>
          </button>
          <button type="button" class="button plain" onClick={() => actions.deleteAll(filter, entries)}>
            <Icon name="remove" />
            Delete all<span class="hidden-text"> with {code}</span>
          </button>
        </div>
      )}
    </li>
  );
}

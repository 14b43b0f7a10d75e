/** What could not be accepted or stored: reasons with counts, then the messages, readable, with what to do. */

import { useEffect, useMemo, useState } from "preact/hooks";
import { hub } from "../../data/hub";
import { poll } from "../../data/polling";
import { type Counts, type Filter, plural, QuarantineList, retriedText } from "../../data/quarantine";
import { Confirmation, type Question } from "../../ui/confirmation";
import type { Actions } from "./actions";
import { EmptyQuarantine } from "./empty";
import { Messages } from "./messages";
import { Reasons } from "./reasons";

/** What a person has asked for and what became of it. */
export interface Doing {
  /** While it runs: what it is. */
  running: string | null;
  result: string | null;
  isProblem: boolean;
}

const NOTHING: Doing = { running: null, result: null, isProblem: false };

export function QuarantinePage() {
  const list = useMemo(() => new QuarantineList(), []);
  const [question, setQuestion] = useState<Question | null>(null);
  const [doing, setDoing] = useState<Doing>(NOTHING);
  useEffect(() => poll(() => list.refresh()), [list]);
  const counts = list.counts.value;
  const role = hub.info.value?.role;
  const mayDecide = role === "operator" || role === "admin";

  /** Does something that changes the quarantine, and says what came of it. */
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
    retryOne: (offset) => void run("Retrying…", async () => retriedText(await list.retryOne(offset))),
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
                running: `Retried ${done.toLocaleString("en")} of ${plural(number, "message")}…`,
                result: null,
                isProblem: false,
              });
            return retriedText(await list.retryAll(filter, told));
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
      <Said doing={doing} problem={list.problem.value} />
      {counts.entries === 0 ? (
        <EmptyQuarantine dropped={counts.dropped} />
      ) : (
        <div class="quarantine" data-testid="quarantine">
          <Summary counts={counts} mayDecide={mayDecide} />
          <Reasons
            list={list}
            counts={counts}
            actions={mayDecide && doing.running === null ? actions : null}
          />
          <Messages
            list={list}
            counts={counts}
            actions={mayDecide && doing.running === null ? actions : null}
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

function Said({ doing, problem }: { doing: Doing; problem: string | null }) {
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

function Summary({ counts, mayDecide }: { counts: Counts; mayDecide: boolean }) {
  return (
    <p class="quarantine-summary">
      <b>{plural(counts.entries, "message")}</b> could not be accepted or stored. Nothing of them is lost: put
      right what is wrong and retry them{mayDecide ? "" : " (an operator can)"}.
      {counts.dropped > 0 && ` ${plural(counts.dropped, "older message")} had to make room.`}
    </p>
  );
}

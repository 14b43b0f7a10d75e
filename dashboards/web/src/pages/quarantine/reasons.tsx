/** Why messages are in quarantine, how many for each reason, and what to do about it. */

import { count } from "../../data/number_format";
import type { CodeCount, Counts, QuarantineList } from "../../data/quarantine";
import { age } from "../../data/time_format";
import { Icon } from "../../ui/icon";
import { now } from "../../ui/tick";
import type { Actions } from "./actions";

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

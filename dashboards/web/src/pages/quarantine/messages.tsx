/** Messages in quarantine, newest first. An opened message shows its whole content. */

import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { errorText } from "../../data/api";
import { count, plural } from "../../data/number_format";
import { type Filter, fetchMessage, payloadUrl, type QuarantineList } from "../../data/quarantine";
import { dateTime, now } from "../../data/time";
import { WithCode } from "../../ui/controls";
import { Icon } from "../../ui/icon";
import { devicePath } from "../../ui/route";
import type { QuarantineCounts, QuarantinedBatch, QuarantinedMessage } from "../../wire/api";
import { withBase } from "../../wire/base_path";

/** Actions of an operator; other roles have none. */
export interface Actions {
  retryOne: (offset: number) => void;
  deleteOne: (offset: number) => void;
  retryAll: (filter: Filter, count: number) => void;
  deleteAll: (filter: Filter, count: number) => void;
}

interface ListProps {
  list: QuarantineList;
  counts: QuarantineCounts;
  actions: Actions | null;
}

export function Messages({ list, counts, actions }: ListProps) {
  const [open, setOpen] = useState<number | null>(null);
  const messages = list.messages.value;
  return (
    <section class="quarantine-messages box" aria-label="Messages">
      <Bar list={list} counts={counts} actions={actions} />
      {list.isBehind.value && (
        <button type="button" class="button quarantine-more" onClick={() => void list.restart()}>
          The list has changed. Show the newest messages
        </button>
      )}
      <ol class="quarantine-list">
        {messages.map((message) => (
          <Row
            key={message.offset}
            message={message}
            actions={actions}
            open={open === message.offset}
            toggle={() => setOpen(open === message.offset ? null : message.offset)}
          />
        ))}
      </ol>
      {messages.length === 0 && <p class="fleet-none">No message matches the filter.</p>}
      {list.hasMore.value && (
        <button type="button" class="button quarantine-more" data-testid="more" onClick={() => void list.loadMore()}>
          Show more
        </button>
      )}
    </section>
  );
}

function Bar({ list, counts, actions }: ListProps) {
  const filter = list.filter.value;
  const matching = counts.devices.filter(({ code }) => filter.code === null || code === filter.code);
  const byDevice = new Map<string, number>();
  for (const { device, entries } of matching) byDevice.set(device, (byDevice.get(device) ?? 0) + entries);
  const shown = matching.filter(({ device }) => filter.device === null || device === filter.device);
  const total = shown.reduce((sum, { entries }) => sum + entries, 0);
  return (
    <div class="quarantine-bar bar">
      <h2 class="row">
        {plural(total, "message")}
        {filter.code !== null && <span class="tag mono">{filter.code}</span>}
      </h2>
      <select
        class="field"
        aria-label="Device"
        value={filter.device ?? ""}
        onChange={(event) => void list.setFilter({ ...filter, device: event.currentTarget.value || null })}
      >
        <option value="">All devices</option>
        {[...byDevice].map(([device, entries]) => (
          <option key={device} value={device}>
            {device} ({count(entries)})
          </option>
        ))}
      </select>
      {actions !== null && filter.device !== null && total > 0 && (
        <BulkActions actions={actions} filter={filter} total={total}>
          these
        </BulkActions>
      )}
    </div>
  );
}

interface RowProps {
  message: QuarantinedBatch;
  actions: Actions | null;
  open: boolean;
  toggle: () => void;
}

function Row({ message, actions, open, toggle }: RowProps) {
  const { offset } = message;
  return (
    <li class={`quarantine-row ${open ? "open" : ""}`} data-testid="message" data-offset={offset}>
      <button
        type="button"
        class="quarantine-line"
        aria-expanded={open}
        aria-controls={open ? `message-${offset}` : undefined}
        onClick={toggle}
      >
        <Icon name={open ? "opened" : "closed"} />
        <time class="number" dateTime={new Date(message.received_ns / 1e6).toISOString()}>
          {dateTime(message.received_ns / 1e6, now.value)}
        </time>
        <span class="mono ellipsis device" title={message.device}>
          {message.device}
        </span>
        <span class="mono ellipsis code">{message.code}</span>
        <span class="ellipsis why">{message.message}</span>
      </button>
      {open && <OpenedMessage message={message} actions={actions} />}
    </li>
  );
}

function OpenedMessage({ message, actions }: { message: QuarantinedBatch; actions: Actions | null }) {
  const { offset } = message;
  const [content, setContent] = useState<QuarantinedMessage | string | null>(null);
  useEffect(() => {
    let current = true;
    fetchMessage(offset).then(
      (answer) => current && setContent(answer),
      (error: unknown) => current && setContent(errorText(error)),
    );
    return () => {
      current = false;
    };
    // The reason may change after a retry.
  }, [offset, message.code, message.message]);
  const loaded = typeof content === "object" ? content : null;
  return (
    <div class="quarantine-opened" id={`message-${offset}`} data-testid="opened">
      <p class="why">
        <WithCode text={message.message} />
      </p>
      <p class="muted">
        <WithCode text={loaded?.advice ?? "\u00a0"} />
      </p>
      <dl class="quarantine-facts">
        <Property name="Device">
          <a class="mono link" href={devicePath(message.device)}>
            {message.device}
          </a>
        </Property>
        <Property name="Batch">
          <span class="mono">
            {message.seq} of epoch {message.epoch}
          </span>
        </Property>
        <Property name="Offset">
          <span class="mono">{offset}</span>
        </Property>
        <Property name="Size">
          {plural(message.size_bytes, "byte")}, {message.format}
        </Property>
      </dl>
      {loaded !== null && loaded.values.length > 0 && <RefusedValues message={loaded} />}
      {loaded?.raw != null && (
        <section class="quarantine-text box" tabIndex={0} aria-label="Raw text" data-testid="raw">
          <pre class="mono">{loaded.raw}</pre>
        </section>
      )}
      <section class="quarantine-text box" tabIndex={0} aria-label="Content" aria-busy={content === null}>
        <pre class="mono">{typeof content === "string" ? content : (loaded?.text ?? "")}</pre>
      </section>
      <MessageActions
        offset={offset}
        actions={actions}
        shortened={loaded?.shortened ?? false}
        retryable={loaded?.retryable ?? true}
      />
    </div>
  );
}

/** The refused values, with the columns that are known of any of them. */
function RefusedValues({ message }: { message: QuarantinedMessage }) {
  const { values, readings, partial } = message;
  const [hasRow, hasTime, hasReason] = [
    values.some(({ row }) => row !== null),
    values.some(({ time_ns }) => time_ns !== null),
    values.some(({ reason }) => reason !== null),
  ];
  return (
    // biome-ignore lint/a11y/useSemanticElements: it scrolls sideways on a phone, and by keyboard as well
    <div class="quarantine-values box" role="region" aria-label="Refused values" tabIndex={0} data-testid="values">
      <table>
        <thead>
          <tr>
            <th scope="col">Metric</th>
            <th scope="col">Value</th>
            {hasRow && (
              <th scope="col" class="number">
                Row
              </th>
            )}
            {hasTime && <th scope="col">Time</th>}
            {hasReason && <th scope="col">Reason</th>}
          </tr>
        </thead>
        <tbody>
          {values.map(({ metric, value, row, time_ns, reason }) => (
            <tr key={`${metric} ${row} ${value}`}>
              <th scope="row" class="mono">
                {metric}
              </th>
              <td class="mono">{value}</td>
              {hasRow && <td class="number">{row}</td>}
              {hasTime && <td class="number">{time_ns !== null && dateTime(time_ns / 1e6, now.value)}</td>}
              {hasReason && <td>{reason}</td>}
            </tr>
          ))}
        </tbody>
      </table>
      <p class="muted">
        {readings > values.length &&
          `${plural(readings - values.length, "more value is", "more values are")} not shown. `}
        {partial && "The valid values are accepted."}
      </p>
    </div>
  );
}

interface MessageActionsProps {
  offset: number;
  actions: Actions | null;
  shortened: boolean;
  retryable: boolean;
}

function MessageActions({ offset, actions, shortened, retryable }: MessageActionsProps) {
  return (
    <div class="bar">
      {actions !== null && (
        <>
          {retryable && (
            <button type="button" class="button primary" data-testid="retry" onClick={() => actions.retryOne(offset)}>
              <Icon name="retry" />
              Retry
            </button>
          )}
          <button type="button" class="button" data-testid="delete" onClick={() => actions.deleteOne(offset)}>
            <Icon name="remove" />
            Delete
          </button>
        </>
      )}
      <a class="button plain" href={payloadUrl(offset)} download>
        <Icon name="download" />
        {shortened ? "Download the whole message" : "Download the message"}
      </a>
      <a class="button plain" href={withBase(`/try?entry=${offset}`)}>
        Try this text
      </a>
    </div>
  );
}

function Property({ name, children }: { name: string; children: ComponentChildren }) {
  return (
    <div>
      <dt class="muted">{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

interface BulkProps {
  actions: Actions;
  filter: Filter;
  total: number;
  retryable?: boolean;
  /** Names the messages, after the verb. */
  children: ComponentChildren;
}

/** Buttons that retry or delete all messages of a filter. */
export function BulkActions({ actions, filter, total, retryable = true, children }: BulkProps) {
  return (
    <>
      {retryable && (
        <button type="button" class="button" onClick={() => actions.retryAll(filter, total)}>
          <Icon name="retry" />
          <span>Retry {children}</span>
        </button>
      )}
      <button type="button" class="button plain" onClick={() => actions.deleteAll(filter, total)}>
        <Icon name="remove" />
        <span>Delete {children}</span>
      </button>
    </>
  );
}
